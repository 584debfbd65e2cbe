"""Exchange events between several collectors on one database. `state` decides what an event changes."""
