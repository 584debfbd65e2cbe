"""SQLite behind the store: connections, schema, disk ballast, backup."""
