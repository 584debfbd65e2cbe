"""A child that is left running outlives its parent, and continues to write its log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from swarmtop.local.parent_watchdog import keep_line

CHILD = """
import sys, time
print("listening", flush=True)
for _ in range(600):
    print("alive", flush=True)
    time.sleep(0.05)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    (folder / "kept_child.py").write_text(CHILD)
    child = subprocess.Popen(
        [sys.executable, "-m", "swarmtop.local.parent_watchdog", "kept_child"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, start_new_session=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "listening\n"
    return child


def test_a_child_ends_with_its_parent_unless_it_is_kept(tmp_path: Path) -> None:
    child = start(tmp_path)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(20) != 0


def test_a_kept_child_continues_and_writes_into_its_log(tmp_path: Path) -> None:
    child, log = start(tmp_path), tmp_path / "child.log"
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(keep_line(str(log)))
        child.stdin.close()
        while child.stdout.readline():  # until the pipe is let go
            pass
        child.stdout.close()
        with log.open() as said:
            while not said.readline().startswith("alive"):
                assert child.poll() is None
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
