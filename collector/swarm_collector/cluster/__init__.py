"""Several collectors on one database: the events they exchange. `state` decides what an event changes."""
