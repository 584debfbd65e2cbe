"""Enforce the limits set by the owner of this machine: traffic budget, idle policy, egress policy, compute budget."""
