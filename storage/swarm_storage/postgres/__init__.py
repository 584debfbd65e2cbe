"""PostgreSQL behind the store, and the bus between collectors that share one database."""
