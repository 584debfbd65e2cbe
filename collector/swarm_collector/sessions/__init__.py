"""Run one session for each probe, viewer and operator request.

Decides what a peer may send and when a session ends. What sessions share is in `swarm_collector.state`.
"""
