"""Run the probe's one UDP port: sockets, STAMP, STUN, NAT discovery and hole punching."""
