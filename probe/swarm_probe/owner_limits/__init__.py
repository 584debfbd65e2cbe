"""What the owner of this machine is promised: traffic budget, idle policy, egress policy, one test at a time."""
