"""The commands that read or write files: import, export, backup, and a first swarm file."""
