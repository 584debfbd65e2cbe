"""Run the tests: most beside each other, those that compare times in two lines; what failed, again alone.

A test that fails beside four others and then passes alone has found a busy machine or a rare race. It is printed as
unsteady and does not hold up a landing. More failures than a few are no such thing, and nothing is run again.

Files of the first part are kept in memory where there is room, because each commit of a store waits for the disk; what
a power failure leaves is tested on a recording. The quiet part, the whole swarm in it, and what runs again are on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
FAILED: Final = ROOT / ".pytest_cache/v/cache/lastfailed"
MAX_RETRIED: Final = 3  # failures that are tried again
BY_FILE: Final = ("--dist", "loadfile", "--no-loadscope-reorder")
BESIDE_OTHERS: Final = ("-n", "5", *BY_FILE, "-m", "not quiet")  # most wait for something
QUIET: Final = ("-n", "2", *BY_FILE, "-m", "quiet")  # most of what they measure is on a wire, while the cores wait
MEMORY: Final = Path("/dev/shm")
ROOM_BYTES: Final = 2 << 30  # four times what a run leaves
SOME_FAILED: Final = 1  # pytest's exit status; others are errors of their own


def run(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


def failed() -> list[str]:
    return sorted(json.loads(FAILED.read_text())) if FAILED.exists() else []


def with_quiet_tests() -> list[str]:
    return [str(path) for path in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.quiet" in path.read_text()]


@contextlib.contextmanager
def in_memory() -> Iterator[tuple[str, ...]]:
    """Yield the arguments that keep the files of tests in memory; none where it has too little room (a container)."""
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        yield ()
        return
    with tempfile.TemporaryDirectory(prefix="swarmtop-tests-", dir=MEMORY) as folder:
        yield ("--basetemp", f"{folder}/run")


def beside_others() -> int:
    with in_memory() as where:
        return run(*BESIDE_OTHERS, *where)


def quiet() -> int:
    return run(*QUIET, *with_quiet_tests())


def main() -> int:
    FAILED.unlink(missing_ok=True)
    unsteady: list[str] = []
    for part in (beside_others, quiet):
        status = part()
        tests = failed()
        if status == SOME_FAILED and 0 < len(tests) <= MAX_RETRIED:
            print(f"running {len(tests)} of them again, alone", flush=True)
            status = run(*tests)
            unsteady += tests
        if status:
            return status
    for test in unsteady:
        print(f"UNSTEADY: {test} failed, and passed when it ran again alone", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
