"""Measure the network: round trips, hops and uplink rates. Sockets come from `udp` and `streams`."""
