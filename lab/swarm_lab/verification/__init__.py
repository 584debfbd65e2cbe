"""What probes and predictions said beside what happened."""
