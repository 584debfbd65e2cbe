"""The one writer thread: its queue, its connection, and its transactions."""
