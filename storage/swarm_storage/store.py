"""Open a store by its URL: an SQLite file, written by one process, or a PostgreSQL database, written by several."""

from __future__ import annotations

from pathlib import Path

from swarm_storage.errors import StoreError
from swarm_storage.sqlite.connect import WriterLock, connect_writer, require_ours
from swarm_storage.sqlite.integrity import START_S, require_sound
from swarm_storage.sqlite.sqlite_store import SqliteStore
from swarm_storage.store_base import Store

_SCHEME = "sqlite://"


def open_store(url: str, *, read_only: bool = False) -> Store:
    """Open `sqlite:///FILE`, `sqlite:////absolute/FILE`, a plain path, or `postgresql://…`. Raises StoreError.

    Not read-only: the store is made or brought up to date, and nobody else can write a file until `close`.
    """
    if url.startswith(("postgresql://", "postgres://")):
        try:
            from swarm_storage.postgres.postgres_backend import PostgresStore  # psycopg is an extra
        except ImportError as error:
            raise StoreError(
                "postgresql:// needs psycopg, which is not installed; pip install 'swarmtop[postgresql]'"
            ) from error
        return PostgresStore(url, read_only=read_only)
    path = _path_of(url)
    require_ours(path, may_be_missing=not read_only)  # before a lock file is put next to another program's file
    lock = None if read_only else WriterLock(path)
    try:
        if lock is not None:
            require_sound(path, START_S)
            connect_writer(path).close()
        return SqliteStore(path, lock)
    except StoreError:
        if lock is not None:
            lock.release()
        raise


def _path_of(url: str) -> Path:
    if "://" in url and not url.startswith(_SCHEME):
        raise StoreError(f"{url.partition('://')[0]}:// is no store; give sqlite:///FILE or postgresql://HOST/DATABASE")
    if url.startswith(_SCHEME):
        rest = url.removeprefix(_SCHEME)
        if not rest.startswith("/") or rest == "/":
            raise StoreError(f"{url} names no file; give sqlite:///FILE, or sqlite:////FILE from the root folder")
        url = rest[1:]
    if not url:
        raise StoreError("an empty path is no store; give sqlite:///FILE or postgresql://HOST/DATABASE")
    return Path(url).expanduser()
