"""Serve this collector's own version of swarmtop to volunteers: its wheel, and the script that installs it."""
