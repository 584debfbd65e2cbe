"""Define the errors of a store; each message says what to do. Driver exceptions are mapped here and nowhere else.

StoreError
├── Missing         there is no such file
├── Moved           the file that is written to is no longer the one at its path
├── NotADatabase    the file is something else
├── NewerVersion    a later swarmtop wrote it
├── OlderVersion    an earlier swarmtop wrote it, and it cannot be brought up to date without writing
├── ReadOnly        file or folder cannot be written
├── Unreachable     the database server does not answer
├── Locked          another program is writing to it
├── LogHeld         a reader keeps the write-ahead log from being reset, and it has grown too far
├── Full            no space left on the disk, or no more allowed (a quota, a limit on the size of files)
├── Corrupt         the file is damaged: nothing is accepted any more
│   └── DiskFailed  the disk fails: nothing is accepted until the file has been checked
├── WriterDied      the thread that writes has ended
├── Stalled         a commit does not end
├── QueueFull       more is waiting than memory may hold; nothing was accepted
├── OutOfOrder      an earlier batch was refused and must come first; nothing was accepted
└── Closed          the writer has been closed
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

_TRIAL_BYTES: Final = 64 << 10
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


class StoreError(Exception):
    """One line: what, the value, what to do."""


class Missing(StoreError):
    pass


class Moved(StoreError):
    pass


class NotADatabase(StoreError):
    pass


class NewerVersion(StoreError):
    pass


class OlderVersion(StoreError):
    pass


class ReadOnly(StoreError):
    pass


class Unreachable(StoreError):
    pass


class Locked(StoreError):
    pass


class LogHeld(StoreError):
    pass


class Full(StoreError):
    pass


class Corrupt(StoreError):
    pass


class DiskFailed(Corrupt):
    pass


class WriterDied(StoreError):
    pass


class Stalled(StoreError):
    pass


class QueueFull(StoreError):
    pass


class OutOfOrder(StoreError):
    pass


class Closed(StoreError):
    pass


def from_sqlite(error: sqlite3.Error, path: Path) -> StoreError:
    """Return the StoreError for what SQLite raised about `path`."""
    code = getattr(error, "sqlite_errorcode", None)  # absent on errors that the Python module itself raises
    primary = code & 0xFF if isinstance(code, int) else None
    if primary == sqlite3.SQLITE_FULL:
        return Full(f"no space left for {path}; free some, nothing that was acknowledged is lost")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ReadOnly(f"cannot write {path} (read-only); make the file and its folder writable")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Locked(f"{path} is locked by another program; close it, or open the file read-only there")
    if primary == sqlite3.SQLITE_NOTADB:
        return NotADatabase(f"{path} is not an SQLite database; give another file")
    if primary == sqlite3.SQLITE_CORRUPT:
        return damaged(path, str(error))
    if primary == sqlite3.SQLITE_CANTOPEN:
        return ReadOnly(f"cannot open {path} ({error}); check that its folder exists and may be written")
    if primary == sqlite3.SQLITE_IOERR:
        if (full := _no_room(path)) is not None:
            return full
        return DiskFailed(f"the disk failed under {path} ({error}); check the disk and its free space")
    return StoreError(f"{path}: {error}")


def damaged(path: Path, what: str) -> Corrupt:
    """Return the error with the two remedies: a copy, or what can still be read."""
    return Corrupt(
        f"{path} is damaged ({what}); stop the collector and put a copy made by `swarmtop backup` in its place,"
        f" or save what can be read with `sqlite3 {path} .recover | sqlite3 NEW`"
    )


def from_os(error: OSError, path: Path) -> StoreError:
    """Return the StoreError for what the system raised about `path`."""
    if isinstance(error, FileNotFoundError):
        return Missing(f"there is no {path}; check the path")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return ReadOnly(f"cannot write {path} ({error.strerror}); make the file and its folder writable")
    if error.errno == errno.ENOSPC:
        return Full(f"no space left for {path}; free some")
    return StoreError(f"cannot use {path} ({error.strerror}); give another file")


def _no_room(path: Path) -> Full | None:
    """Return Full if a quota or a limit on file sizes caused the error: SQLite reports only ENOSPC as full."""
    import resource  # POSIX only, as writing is

    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    for each in (path, path.with_name(path.name + "-wal")):
        with contextlib.suppress(OSError):  # the log may be gone already
            if limit != resource.RLIM_INFINITY and each.stat().st_size + _TRIAL_BYTES >= limit:
                return Full(f"{each} may not grow beyond {limit} bytes here; raise the limit on file sizes (ulimit -f)")
    trial = path.with_name(f"{path.name}.{os.getpid()}.trial")
    try:
        with trial.open("wb") as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in _NO_ROOM:
            return Full(f"no space left for {path} ({error.strerror}); free some, nothing acknowledged is lost")
        return None
    finally:
        with contextlib.suppress(OSError):  # a read-only disk did not create it
            trial.unlink(missing_ok=True)
    return None
