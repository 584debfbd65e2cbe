"""The widgets: they render lines as strips, and know nothing of a swarm."""
