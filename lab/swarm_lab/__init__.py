"""Emulate an internet on one Linux machine, and record the truth about every packet."""
