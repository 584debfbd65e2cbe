"""Read the GPUs of each vendor that NVML does not know. `system_gpus.py` puts them together."""
