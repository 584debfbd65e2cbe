"""Tell the machine's owner what the probe would do, and what it does: `--dry-run`, `swarm-probe status`."""
