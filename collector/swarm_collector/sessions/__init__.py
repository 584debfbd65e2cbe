"""One session each for a probe, a viewer and an operator request.

Decides what a peer may say and when a session ends. What sessions share is in `swarm_collector.state`.
"""
