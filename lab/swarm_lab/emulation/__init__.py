"""Emulate the internet: namespaces, router, delay models, home NATs, slow processors."""
