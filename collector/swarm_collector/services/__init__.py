"""Act on what sessions report, run periodic work, and report the collector's own health. The state that they change
is in `swarm_collector.state`; `server` starts and stops them."""
