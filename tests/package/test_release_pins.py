"""`requirements-release.txt` serves every Python and platform that is released for; no registry is needed here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release_pins", ROOT / "tools" / "release" / "release_pins.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["release_pins"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pins = tool()
PINS = (ROOT / "requirements-release.txt").read_text()


def entries(target: object) -> dict[str, Requirement]:
    heads = [line.removesuffix(" \\") for line in pins.entries_for(target, PINS).splitlines() if "==" in line]
    return {canonicalize_name(head.split("==")[0]): Requirement(head) for head in heads}


@pytest.mark.parametrize("target", pins.TARGETS, ids=str)
def test_whatever_a_package_needs_on_a_platform_is_pinned_there(target: object) -> None:
    """Read from the packages installed here, with the markers of that platform."""
    pinned, missing = entries(target), set()
    for name in ("swarmtop", *pinned):
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of other platforms only
        for each in map(Requirement, needs):
            if each.marker is None or each.marker.evaluate(pins.environment(target)):
                found = pinned.get(canonicalize_name(each.name))
                if found is None or not each.specifier.contains(pins.version_of(found)):
                    missing.add(f"{name} needs {each.name}{each.specifier}")
    assert missing == set()


def test_a_release_installs_the_versions_that_are_tested() -> None:
    constraints = {
        canonicalize_name(line.split("==")[0]): line.split("==")[1].split()[0]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    older = {(name, version) for name, version, _, _ in pins.OLDER}
    pinned = {(name, pins.version_of(each)) for target in pins.TARGETS for name, each in entries(target).items()}
    assert {(name, constraints.get(name, version)) for name, version in pinned - older} == pinned - older


def test_every_entry_has_hashes_and_none_of_them_twice() -> None:
    hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})\b", PINS)
    assert len(hashes) == len(set(hashes)) == PINS.count("--hash=")
    for entry in re.findall(r"^\w.*(?:\n .*)*", PINS, re.MULTILINE):
        assert re.fullmatch(r"[a-z0-9.-]+==\S+( ; [^\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", entry)


@pytest.mark.parametrize(
    ("filename", "pythons", "platforms"),
    [
        ("a-1.0-py3-none-any.whl", "3.11 3.12 3.13 3.14", set(pins.PLATFORMS)),
        ("a-1.0-py2.py3-none-any.whl", "3.11 3.12 3.13 3.14", set(pins.PLATFORMS)),
        ("a-1.0-cp38-abi3-manylinux_2_28_aarch64.whl", "3.11 3.12 3.13 3.14", {"Linux aarch64"}),
        ("a-1.0-cp313-abi3-musllinux_1_2_x86_64.whl", "3.13 3.14", {"Linux x86_64"}),
        ("a-1.0-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "3.12", {"Linux x86_64"}),
        ("a-1.0-cp314-cp314-macosx_11_0_universal2.whl", "3.14", {"macOS arm64", "macOS x86_64"}),
        ("a-1.0-cp311-cp311-macosx_11_0_arm64.whl", "3.11", {"macOS arm64"}),
        ("a-1.0-cp314-cp314t-manylinux_2_28_x86_64.whl", "", set()),
        ("a-1.0-cp310-cp310-manylinux_2_28_x86_64.whl", "", set()),
        ("a-1.0-cp311-cp311-win_amd64.whl", "", set()),
        ("a-1.0-cp311-cp311-manylinux_2_28_ppc64le.whl", "", set()),
        ("a-1.0-pp311-pypy311_pp73-manylinux_2_28_x86_64.whl", "", set()),
        ("a-1.0.tar.gz", "", set()),
    ],
)
def test_which_file_is_for_whom(filename: str, pythons: str, platforms: set[str]) -> None:
    got = pins.wanted(filename)
    assert {".".join(map(str, target.python)) for target in got} == set(pythons.split())
    assert {target.platform for target in got} == platforms
    assert len(got) == len(pythons.split()) * len(platforms)


def test_a_version_without_a_file_for_some_platform_is_refused() -> None:
    file = {"filename": "a-1.0-cp311-abi3-manylinux_2_28_x86_64.whl", "hashes": {"sha256": "0" * 64}}
    with pytest.raises(SystemExit, match=r"^a 1\.0 has no wheel for Python 3\.11 on Linux aarch64, "):
        pins.pinned(Requirement("a==1.0"), [file])


def test_an_older_version_is_asked_for_only_where_the_pinned_one_has_no_wheel() -> None:
    forked = pins.forked("a==1\ncryptography==50.0.2\nb==2\n").splitlines()
    assert forked[0::3] == ["a==1", "b==2"]
    assert forked[1].startswith("cryptography==50.0.2 ; sys_platform != 'darwin' or")
    assert forked[2].startswith("cryptography==48.0.1 ; sys_platform == 'darwin' and")
    with pytest.raises(SystemExit, match="pins cryptography 0 times"):
        pins.forked("a==1\n")
