"""Run a module as a program that ends when its parent does, however that ends.

`python -m swarmtop.local.parent_watchdog MODULE ARGS…`

The parent holds the writing end of this process's stdin. When it is gone, killed with -9 included, the pipe reads as
ended and this process gets the same SIGTERM that an operator would send. Works on every POSIX system, unlike prctl.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from typing import Final

GRACE_S: Final = 10.0  # to drain and close after SIGTERM


def main() -> None:
    module = sys.argv[1]
    sys.argv[:] = sys.argv[1:]
    threading.Thread(target=_watch, name="leash", daemon=True).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main()
