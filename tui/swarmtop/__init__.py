"""Provide the command line and the dashboard: live, paused or in replay."""
