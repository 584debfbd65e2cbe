"""Draw a swarm: a token's path, which node holds which layers, machines on a map and as a graph."""
