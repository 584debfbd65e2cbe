"""Provide the three data sources: a running collector (live), a database (replay), a file written by hand."""
