"""Store and read samples: SQLite or PostgreSQL, one writer thread, history, replay and CSV.

`store.open_store(url)` gives a Store: `.reader` (reader.Reader) and, where it may be written, `.writer()`
(writer.Writer). `csv_format` writes what a reader holds; `errors` is what may be raised.
"""
