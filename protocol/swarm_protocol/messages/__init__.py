"""Define messages over the WebSockets, between collector and probes, viewers and operators, and their samples."""
