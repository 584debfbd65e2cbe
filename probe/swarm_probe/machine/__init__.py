"""Read the state of this machine: processor, memory, GPUs, quotas, and what disturbs a measurement."""
