"""Engines run on emulated hosts beside what is predicted for them; `python -m bench engines` is the command."""
