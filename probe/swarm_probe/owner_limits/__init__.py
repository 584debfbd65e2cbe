"""Enforce limits promised to the owner of this machine: traffic budget, idle policy, egress policy, compute budget."""
