"""Report known vulnerabilities of what a release installs (pip-audit), or why the check failed.

python tools/release/audit.py      exit code 1 if there is one, 0 if there is none or the advisories cannot be had
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
PINS = ROOT / "requirements-release.txt"
WITHIN_S = 120.0
ADVISORIES = ("pypi.org", 443)  # whose JSON API pip-audit asks
CONNECT_WITHIN_S = 5.0


def main() -> int:
    try:
        socket.create_connection(ADVISORIES, CONNECT_WITHIN_S).close()
    except OSError as error:
        return skipped("the advisories cannot be had", f"{ADVISORIES[0]}: {error}")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        got = subprocess.run([python, "-m", "pip", "install", "--quiet", "pip-audit"], capture_output=True, text=True)
        if got.returncode:
            return skipped("pip-audit cannot be installed", got.stderr)
        command = [python, "-m", "pip_audit", "--requirement", PINS, "--require-hashes", "--disable-pip", "-f", "json"]
        try:
            audit = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S)
        except subprocess.TimeoutExpired:
            return skipped("the advisories cannot be had", f"no answer within {WITHIN_S:.0f} s")
    try:
        packages = json.loads(audit.stdout)["dependencies"]
    except (ValueError, KeyError):
        return skipped("the advisories cannot be had", audit.stderr)
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:  # a mirror that serves packages and knows of no advisories
        return skipped("the advisories cannot be had", packages[0]["skip_reason"] if packages else "no package")
    for package in asked:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no release yet"
            print(f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}")
    print(f"{len(asked)} of {len(packages)} packages audited", file=sys.stderr)
    return 1 if any(package["vulns"] for package in asked) else 0


def skipped(what: str, said: str) -> int:
    lines = said.strip().splitlines()
    print(f"skipped: {what} ({lines[-1][:200] if lines else 'no word of why'})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
