"""How the collector uses the machine: the event loop, memory, open files."""
