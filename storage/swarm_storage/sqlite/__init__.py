"""Store in SQLite: connections, schema, disk reserve, backup."""
