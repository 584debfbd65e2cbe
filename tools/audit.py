"""Known vulnerabilities of what a release installs (pip-audit), or why that could not be found out.

python tools/audit.py      exit code 1 where there is one, 0 where there is none or the advisories cannot be had
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINS = ROOT / "requirements-release.txt"
WITHIN_S = 120.0
OUT_OF_REACH = ("ConnectionError", "ServiceError", "Max retries", "Could not connect", "Name or service", "404", "403")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        got = subprocess.run([python, "-m", "pip", "install", "--quiet", "pip-audit"], capture_output=True, text=True)
        if got.returncode:
            return skipped("pip-audit cannot be installed", got.stderr)
        command = [python, "-m", "pip_audit", "--requirement", PINS, "--require-hashes", "--disable-pip"]
        try:
            audit = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S)
        except subprocess.TimeoutExpired:
            return skipped("the advisories cannot be had", f"no answer within {WITHIN_S:.0f} s")
    print(audit.stdout, end="")
    if audit.returncode and "vulnerabilit" not in audit.stderr and any(word in audit.stderr for word in OUT_OF_REACH):
        return skipped("the advisories cannot be had", audit.stderr)
    print(audit.stderr, end="", file=sys.stderr)
    return audit.returncode


def skipped(what: str, said: str) -> int:
    lines = said.strip().splitlines()
    print(f"skipped: {what} ({lines[-1][:200] if lines else 'no word of why'})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
