"""Store in SQLite: connections, schema, disk ballast, backup."""
