"""Run the tests: most beside each other, those that compare times in two lines; what failed, again alone.

A test that fails beside three others and then passes alone has found a busy machine or a rare race. It is printed as
unsteady and does not hold up a landing. More failures than a few are no such thing, and nothing is run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
FAILED: Final = ROOT / ".pytest_cache/v/cache/lastfailed"
AT_MOST: Final = 3  # failures that are tried again
BY_FILE: Final = ("--dist", "loadfile", "--no-loadscope-reorder")
BESIDE_OTHERS: Final = ("-n", "4", *BY_FILE, "-m", "not quiet")
QUIET: Final = ("-n", "2", *BY_FILE, "-m", "quiet")  # most of what they measure is on a wire, while the cores wait
SOME_FAILED: Final = 1  # pytest's exit status; others are errors of their own


def run(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


def failed() -> list[str]:
    return sorted(json.loads(FAILED.read_text())) if FAILED.exists() else []


def with_quiet_tests() -> list[str]:
    return [str(path) for path in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.quiet" in path.read_text()]


def main() -> int:
    FAILED.unlink(missing_ok=True)
    unsteady: list[str] = []
    for arguments in (BESIDE_OTHERS, (*QUIET, *with_quiet_tests())):
        status = run(*arguments)
        tests = failed()
        if status == SOME_FAILED and 0 < len(tests) <= AT_MOST:
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
