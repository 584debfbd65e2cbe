"""Run the one writer thread: its queue, its connection, and its transactions."""
