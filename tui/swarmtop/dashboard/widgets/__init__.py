"""Render lines as strips: the widgets. They know nothing of a swarm."""
