"""Run a module as a program that ends when its parent does, however the parent ends.

`python -m swarmtop.local.parent_watchdog MODULE ARGS…`

The parent holds the writing end of this process's stdin. When it is gone, even by kill -9, the pipe ends and this
process gets the same SIGTERM that an operator would send. Works on every POSIX system, unlike prctl.

A parent that wants the program to outlive it writes `keep FILE` and a newline before it ends: output goes to that file
from then on, and the watchdog stops.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from typing import Final

KEEP: Final = b"keep "
MAX_LINE: Final = 8192  # a path of any system is shorter
GRACE_S: Final = 10.0  # to drain and close after SIGTERM


def main() -> None:
    module = sys.argv[1]
    sys.argv[:] = sys.argv[1:]
    threading.Thread(target=_watch, name="leash", daemon=True).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def keep_line(log: str) -> str:
    """Return the line that a parent writes so that the program outlives it."""
    return f"{KEEP.decode()}{log}\n"


def _watch() -> None:
    said = b""
    while some := os.read(0, 4096):
        said = (said + some)[-MAX_LINE:]
        if said.startswith(KEEP) and said.endswith(b"\n"):
            _let_go(said[len(KEEP) : -1].decode())
            return
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _let_go(log: str) -> None:
    """Stop watching: the parent's pipe ends with it, and output goes into the log from now on, or nowhere."""
    try:
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        file = os.open(os.devnull, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


if __name__ == "__main__":
    main()
