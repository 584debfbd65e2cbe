"""Limits promised to the owner of this machine: traffic budget, idle policy, egress policy, one test at a time."""
