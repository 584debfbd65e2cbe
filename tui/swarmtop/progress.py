"""Report work that takes longer than two seconds on stderr, when that is a terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final, TextIO

QUIET_S: Final = 2.0  # below, a line would only flicker
EVERY_S: Final = 1.0


@contextlib.contextmanager
def progress(doing: str, stream: TextIO | None = None, *, quiet_s: float = QUIET_S) -> Iterator[None]:
    """Show `doing … 5 s` on one line that is wiped at the end. Nothing at all where `stream` is not a terminal."""
    out = stream or sys.stderr
    if not out.isatty():
        yield
        return
    done = threading.Event()
    began = time.monotonic()

    def tell() -> None:
        pause = quiet_s
        while not done.wait(pause):
            out.write(f"\r{doing} … {time.monotonic() - began:.0f} s\x1b[K")
            out.flush()
            pause = EVERY_S

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
        if time.monotonic() - began > quiet_s:
            out.write("\r\x1b[K")
            out.flush()
