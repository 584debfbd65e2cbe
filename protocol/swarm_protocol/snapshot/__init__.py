"""The Swarm at one moment: its columns, how it is built from samples, read from a file, and sent as frames."""
