"""Members: admission, names, addresses, and how members reach each other."""
