"""Run programs on this machine: the embedded collector and probe, the browser server, the operator's connection."""
