"""What a release installs, each file with its hash: `requirements-release.txt`, by pip's own resolver and report.

    python tools/release_pins.py      hashes are those of this platform's files; run it on each that is released for

Then: pip install --require-hashes --no-deps -r requirements-release.txt && pip install --no-deps swarmtop
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "requirements-release.txt"


def main() -> int:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run(
        [*command, "--constraint", ROOT / "constraints.txt", ROOT], stdout=subprocess.PIPE, check=True
    )
    lines = []
    for each in json.loads(done.stdout)["install"]:
        name, version = each["metadata"]["name"], each["metadata"]["version"]
        hashes = each["download_info"].get("archive_info", {}).get("hashes", {})
        if "sha256" in hashes:  # swarmtop itself is a folder here, and has none
            lines.append(f"{name.lower()}=={version} --hash=sha256:{hashes['sha256']}")
    where = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    head = f"# made by tools/release_pins.py on {where}: the files that a release installs there, and no others\n"
    OUT.write_text(head + "\n".join(sorted(lines)) + "\n")
    print(f"{OUT.name}: {len(lines)} packages", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
