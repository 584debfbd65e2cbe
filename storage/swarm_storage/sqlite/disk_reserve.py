"""Reserve disk space: on a full disk, deleting old rows still needs space for the write-ahead log.

The reserve is an empty file next to the store. When the disk is full it is removed, old rows are deleted in the space
that this frees, and it is created again once there is enough space.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 16 << 20  # a step of pruning writes a few megabytes into the log
PLENTY: Final = 8  # times its own size must be free before it is created


class DiskReserve:
    def __init__(self, store: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self.path = store.with_name(store.name + ".ballast")
        self._size_bytes = size_bytes

    def keep(self) -> bool:
        """Create the file if it is missing and there is plenty of space; return whether it exists."""
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
        except OSError:  # a quota or a limit on file sizes: there is no space to reserve
            self.release()
            return False
        return True

    def release(self) -> bool:
        """Remove the file; return whether that freed space."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True


def _reserve(fd: int, size_bytes: int) -> None:
    """Allocate real blocks, not a hole."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size_bytes)
        return
    for _ in range(size_bytes >> 20):
        os.write(fd, bytes(1 << 20))
