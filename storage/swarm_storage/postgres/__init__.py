"""Store in PostgreSQL, and connect the collectors that share one database."""
