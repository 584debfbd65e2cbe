"""Install the wheel without constraints on each Python of this machine, and use it.

    python tools/release/try_wheel.py [PYTHON …]      default: every python3.11 … python3.14 on the PATH
    python tools/release/try_wheel.py --pinned        with requirements-release.txt, as a release is installed

Prints one line for each Python; exit code 1 if one fails. Needs the registry.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = ("python3.11", "python3.12", "python3.13", "python3.14")
SWARM = ("--swarm", str(ROOT / "examples" / "garage.toml"), "--model", "llama-2-7b")
INSTALL_WITHIN_S = 900.0
RUN_WITHIN_S = 60.0


class Failed(Exception):
    """One line that says which command failed and how."""


def done(*words: str | Path, within_s: float = RUN_WITHIN_S, **environment: str) -> str:
    command = [str(word) for word in words]
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=within_s, env={**os.environ, **environment}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{' '.join(command[:6])}: {error}") from error
    if found.returncode:
        said = (found.stderr or found.stdout).strip().splitlines()
        raise Failed(f"{' '.join(command[:6])}: exit {found.returncode}: {said[-1] if said else 'no output'}")
    return found.stdout


def tried(python: str, wheel: Path, folder: Path, *, pinned: bool) -> str:
    """Install and use the wheel there; return what was seen. Raises Failed."""
    version = done(python, "-c", "import platform; print(platform.python_version())").strip()
    done(python, "-m", "venv", folder / "venv", within_s=INSTALL_WITHIN_S)
    programs = folder / "venv" / "bin"
    pip = (programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    if pinned:
        pins = ROOT / "requirements-release.txt"
        done(*pip, "--require-hashes", "--no-deps", "--requirement", pins, within_s=INSTALL_WITHIN_S)
        done(*pip, "--no-deps", wheel, within_s=INSTALL_WITHIN_S)
        done(programs / "python", "-m", "pip", "check")
    else:
        done(*pip, wheel, within_s=INSTALL_WITHIN_S)
    home = {"HOME": str(folder), "SWARMTOP_HOME": str(folder / "state"), "PYTHONWARNINGS": "error::DeprecationWarning"}
    for program in ("swarmtop", "swarm-probe", "swarm-collector"):
        done(programs / program, "--version", **home)
    done(programs / "swarmtop", "predict", *SWARM, "--placement", "attic-3090:0-31", **home)
    done(programs / "swarmtop", "plan", *SWARM, **home)
    return f"{version}: installed, predicts and plans; {joined(programs, folder, home)}"


def joined(programs: Path, folder: Path, home: dict[str, str]) -> str:
    """Run a collector and a probe of it on this machine, until the dashboard's ranking shows the probe."""
    environment = {**os.environ, **home}
    log = (folder / "log").open("w")
    store = f"sqlite:///{folder}/swarm.db"
    collector = subprocess.Popen(
        [programs / "swarm-collector", "--listen", "127.0.0.1:0", "--store", store, "--state", folder / "collector"],
        stderr=log, stdout=log, env=environment,
    )  # fmt: skip
    running = [collector]
    try:
        where = seen(folder / "log", r"127\.0\.0\.1:(\d+)", collector)
        running.append(
            subprocess.Popen(
                [programs / "swarm-probe", "--join", where, "--name", "tried", "--state", folder / "probe"],
                stderr=log, stdout=log, env=environment,
            )
        )  # fmt: skip
        ends = time.monotonic() + RUN_WITHIN_S
        while "tried" not in done(programs / "swarmtop", "--once", "--connect", where, **home):
            if time.monotonic() > ends:
                raise Failed(f"the probe was not seen within {RUN_WITHIN_S:.0f} s: {(folder / 'log').read_text()}")
    finally:
        for process in reversed(running):
            process.terminate()
        codes = [process.wait(RUN_WITHIN_S) for process in running]
        log.close()
    if any(codes):
        raise Failed(f"collector and probe ended with {codes}: {(folder / 'log').read_text()}")
    return "a probe joined a collector"


def seen(log: Path, pattern: str, process: subprocess.Popen[bytes]) -> str:
    """Return the first match in the log. Raises Failed where the process ends or says nothing."""
    ends = time.monotonic() + RUN_WITHIN_S
    while time.monotonic() < ends and process.poll() is None:
        if (found := re.search(pattern, log.read_text())) and not found[0].endswith(":0"):
            return found[0]
        time.sleep(0.05)
    raise Failed(f"the collector did not start: {log.read_text().strip()}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Install the wheel on each Python of this machine, and use it.")
    parser.add_argument("python", nargs="*", help="interpreters (default: python3.11 … python3.14 on the PATH)")
    parser.add_argument("--pinned", action="store_true", help="with the pins and hashes of a release")
    parser.add_argument("--wheel", type=Path, help="a wheel that is built already, where hatchling is not installed")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        wheel = options.wheel
        if wheel is None:
            done(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, within_s=INSTALL_WITHIN_S)
            (wheel,) = Path(folder).glob("*.whl")
        for number, python in enumerate(options.python or NAMES):
            if shutil.which(python) is None:
                print(f"{python}: not on this machine", flush=True)
                continue
            place = Path(folder) / str(number)
            place.mkdir()
            try:
                print(tried(python, wheel, place, pinned=options.pinned), flush=True)
            except Failed as error:
                failed += 1
                print(f"{python}: FAILED: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
