"""Keep disk space in reserve: on a full disk, deleting old rows needs some, for the write-ahead log.

A file next to the store that holds nothing. When nothing can be written it is removed, old rows are deleted with the
room it leaves, and it is made again once there is plenty.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 16 << 20  # a step of pruning writes a few megabytes into the log
PLENTY: Final = 8  # times its own size must be free before it is made


class DiskReserve:
    def __init__(self, store: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self.path = store.with_name(store.name + ".ballast")
        self._size_bytes = size_bytes

    def keep(self) -> bool:
        """Make it where it is missing and there is plenty of room; return whether it exists."""
        try:
            if self.path.exists():
                return True
            if shutil.disk_usage(self.path.parent).free < PLENTY * self._size_bytes:
                return False
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _reserve(fd, self._size_bytes)
            finally:
                os.close(fd)
        except OSError:  # a quota, a limit on file sizes: there is no room to keep
            self.release()
            return False
        return True

    def release(self) -> bool:
        """Remove it; return whether that made room."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True


def _reserve(fd: int, size_bytes: int) -> None:
    """Reserve real blocks, not a hole."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size_bytes)
        return
    for _ in range(size_bytes >> 20):
        os.write(fd, bytes(1 << 20))
