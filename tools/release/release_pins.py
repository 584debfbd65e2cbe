"""Write `requirements-release.txt`: what a release installs, every version pinned and every file with its hash.

    python tools/release/release_pins.py          resolve again with uv, for all targets at once (needs the registry)
    python tools/release/release_pins.py --check  have pip choose from it for each target, without installing anything

One file serves all TARGETS. It lists wheels only: an install with hashes never runs a package's own build script.
Then: pip install --require-hashes --no-deps -r requirements-release.txt && pip install --no-deps swarmtop
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import venv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging import tags
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[2]
OUT = ROOT / "requirements-release.txt"
CONSTRAINTS = ROOT / "constraints.txt"
INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
# name → the platform tags of its wheels, of any age: pip refuses those that are too new for a machine
PLATFORMS = {
    "Linux x86_64": re.compile(r"(manylinux|musllinux).*_x86_64"),
    "Linux aarch64": re.compile(r"(manylinux|musllinux).*_aarch64"),
    "macOS arm64": re.compile(r"macosx_\d+_\d+_(arm64|universal2)"),
    "macOS x86_64": re.compile(r"macosx_\d+_\d+_(x86_64|universal2|intel)"),
}
# The tags that pip is to assume in --check: those of a system that is a few years old.
CHECKED_TAGS = {
    "Linux x86_64": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "Linux aarch64": ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
    "macOS arm64": ("macosx_14_0_arm64",),
    "macOS x86_64": ("macosx_14_0_x86_64",),
}
# An older version where the pinned one has no wheel: name, version, where, and the opposite of where.
OLDER = (
    (
        "cryptography",  # 49.0 dropped Intel Macs
        "48.0.1",
        "sys_platform == 'darwin' and platform_machine == 'x86_64'",
        "sys_platform != 'darwin' or platform_machine != 'x86_64'",
    ),
)
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Target:
    python: tuple[int, int]
    platform: str

    def __str__(self) -> str:
        return f"Python {self.python[0]}.{self.python[1]} on {self.platform}"

    def takes(self, tag: tags.Tag) -> bool:
        """Return whether CPython of this version on this platform installs a wheel with this tag."""
        return tag in _PYTHON_TAGS[self.python, tag.platform == "any"] or (
            tags.Tag(tag.interpreter, tag.abi, "PLATFORM") in _PYTHON_TAGS[self.python, False]
            and PLATFORMS[self.platform].fullmatch(tag.platform) is not None
        )


TARGETS = tuple(Target(python, platform) for python in PYTHONS for platform in PLATFORMS)


def _python_tags(python: tuple[int, int]) -> Iterator[tags.Tag]:
    """Return interpreter and ABI tags that this CPython accepts; free-threaded builds are not supported."""
    abi = f"cp{python[0]}{python[1]}"
    yield from tags.cpython_tags(python, [abi], ["PLATFORM"])
    yield from tags.compatible_tags(python, abi, ["PLATFORM"])


_PYTHON_TAGS = {
    (python, pure): frozenset(tag for tag in _python_tags(python) if (tag.platform == "any") is pure)
    for python in PYTHONS
    for pure in (True, False)
}


def wanted(filename: str) -> frozenset[Target]:
    """Return the targets that install this file; none for what is no wheel."""
    if not filename.endswith(".whl"):
        return frozenset()
    _, _, _, of_file = parse_wheel_filename(filename)
    return frozenset(target for target in TARGETS if any(target.takes(tag) for tag in of_file))


def resolved() -> list[Requirement]:
    """Return the packages of a release with their versions, by uv's resolver, for all platforms at once."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(forked(CONSTRAINTS.read_text()))
        command = [python, "-m", "uv", "pip", "compile", ROOT / "pyproject.toml", "--constraints", constraints]
        lowest = ".".join(map(str, PYTHONS[0]))
        options = ["--universal", "--python-version", lowest, "--no-header", "--no-annotate", "--quiet"]
        done = subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True, check=True)
    return [Requirement(line) for line in done.stdout.splitlines() if line.strip()]


def forked(constraints: str) -> str:
    """Return the constraints with the versions of OLDER where their markers hold."""
    for name, version, where, elsewhere in OLDER:
        pin = re.compile(rf"^({re.escape(name)}==\S+)$", re.MULTILINE)
        constraints, changed = pin.subn(rf"\1 ; {elsewhere}\n{name}=={version} ; {where}", constraints)
        if changed != 1:
            raise SystemExit(f"{CONSTRAINTS.name} pins {name} {changed} times; correct OLDER in {Path(__file__).name}")
    return constraints


def files_of(requirement: Requirement) -> list[dict[str, Any]]:
    """Return the registry's files of exactly this version (PEP 691)."""
    request = urllib.request.Request(
        f"{INDEX}/{canonicalize_name(requirement.name)}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        files = json.load(answer)["files"]
    wheels = [file for file in files if file["filename"].endswith(".whl") and not file.get("yanked")]
    return [file for file in wheels if str(parse_wheel_filename(file["filename"])[1]) == version_of(requirement)]


def version_of(requirement: Requirement) -> str:
    (pin,) = requirement.specifier
    return pin.version


def pinned(requirement: Requirement, files: Iterable[dict[str, Any]]) -> str:
    """Return one entry of the file. Raises SystemExit where a target would have nothing to install."""
    hashes, served = set(), set()
    for file in files:
        if targets := wanted(file["filename"]):
            served |= targets
            hashes.add(file["hashes"]["sha256"])
    needing = {t for t in TARGETS if requirement.marker is None or requirement.marker.evaluate(environment(t))}
    if missing := sorted(map(str, needing - served)):
        raise SystemExit(f"{requirement.name} {version_of(requirement)} has no wheel for {', '.join(missing)}")
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    lines = [f"{canonicalize_name(requirement.name)}=={version_of(requirement)}{marker}"]
    return " \\\n".join([*lines, *(f"    --hash=sha256:{digest}" for digest in sorted(hashes))])


def environment(target: Target) -> dict[str, str]:
    """Return the values of environment markers (PEP 508) on this target."""
    system, machine = target.platform.split()
    version = ".".join(map(str, target.python))
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{version}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": {"macOS": "Darwin"}.get(system, system),
        "platform_version": "",
        "python_full_version": f"{version}.0",
        "python_version": version,
        "sys_platform": {"macOS": "darwin", "Linux": "linux"}[system],
        "extra": "",
    }


def needed_anywhere(requirement: Requirement) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate(environment(target)) for target in TARGETS)


def write() -> int:
    requirements = sorted(filter(needed_anywhere, resolved()), key=lambda each: canonicalize_name(each.name))
    entries = [pinned(requirement, files_of(requirement)) for requirement in requirements]
    pythons = ", ".join(".".join(map(str, python)) for python in PYTHONS)
    head = f"# Made by tools/release/release_pins.py for CPython {pythons} on {', '.join(PLATFORMS)}: wheels only.\n"
    OUT.write_text(head + "\n".join(entries) + "\n")
    print(f"{OUT.name}: {len(entries)} packages, {sum(e.count('--hash') for e in entries)} files", file=sys.stderr)
    return 0


def entries_for(target: Target, text: str) -> str:
    """Return the entries that apply on this target, without their markers: pip reads those by its own Python."""
    kept = []
    for entry in re.findall(r"^\w.*(?:\n .*)*", text, re.MULTILINE):
        head, hashes = entry.split(" \\\n", 1)
        requirement = Requirement(head)
        if requirement.marker is None or requirement.marker.evaluate(environment(target)):
            kept.append(f"{requirement.name}{requirement.specifier} \\\n{hashes}\n")
    return "".join(kept)


def check() -> int:
    """Have pip choose a file for every entry on every target; it compares hashes and reports what is missing."""
    failed = 0
    for target in TARGETS:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--only-binary=:all:", "--implementation", "cp"]
        command += ["--python-version", ".".join(map(str, target.python))]
        command += [word for tag in CHECKED_TAGS[target.platform] for word in ("--platform", tag)]
        with tempfile.TemporaryDirectory() as folder:
            entries = Path(folder, "requirements.txt")
            entries.write_text(entries_for(target, OUT.read_text()))
            command += ["--requirement", str(entries), "--target", folder]
            done = subprocess.run(command, capture_output=True, text=True)
        said = done.stderr.strip().splitlines()
        print(f"{target}: {'ok' if done.returncode == 0 else said[-1] if said else 'failed'}", flush=True)
        failed += done.returncode != 0
    print(f"{len(TARGETS) - failed} of {len(TARGETS)} targets can be installed", file=sys.stderr)
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="try the file for each target instead of making it")
    return check() if parser.parse_args().check else write()


if __name__ == "__main__":
    sys.exit(main())
