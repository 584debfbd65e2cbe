"""The one writer thread: its queue, its connection, and what a transaction does."""
