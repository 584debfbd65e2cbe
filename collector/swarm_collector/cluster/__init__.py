"""Several collectors on one database: what they tell each other. What an event changes is decided in `state`."""
