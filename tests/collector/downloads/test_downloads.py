"""Volunteers install exactly the swarmtop that the collector runs, checked by the hashes of the invite's line."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path

import aiohttp
import pytest
from collector_rig import Rig, collector

import swarm_probe.cli
from swarm_collector.downloads import downloads
from swarm_collector.downloads.wheel import wheel_of_this
from swarmtop.commands.invite import CHECKED, invite_line
from swarmtop.local.served_hashes import Served, served

PROGRAM = '#!/bin/sh\necho "$(basename $0) $* invite=${{SWARMTOP_INVITE-none}}" >> {log}\n'


def installer(folder: Path, log: Path) -> str:
    """A PATH on which uv notes what it is asked for, and has put a swarm-probe there that does the same."""
    for name, rest in (("uv", f'[ "$2" != dir ] || echo {folder}\n'), ("swarm-probe", "")):
        path = folder / name
        path.write_text(PROGRAM.format(log=log) + rest)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"{folder}:{os.environ['PATH']}"


async def pasted(line: str, folder: Path) -> tuple[int | None, list[str], str]:
    """What a shell makes of the line: exit code, what the stubs noted, what was said."""
    (folder / "bin").mkdir()
    log = folder / "log"
    environment = {"PATH": installer(folder / "bin", log), "HOME": str(folder), "TMPDIR": str(folder)}
    shell = await asyncio.create_subprocess_exec("/bin/sh", "-c", line, env=environment, stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(shell.communicate(), 30)
    return shell.returncode, log.read_text().splitlines() if log.exists() else [], said.decode()


async def offered(rig: Rig) -> Served:
    found = await asyncio.to_thread(served, "127.0.0.1", rig.port, "", tls=False)
    assert isinstance(found, Served), found
    return found


async def test_the_line_installs_what_this_collector_runs_and_joins(tmp_path: Path) -> None:
    async with collector(tmp_path) as rig:
        line, unserved = invite_line("127.0.0.1", rig.port, found=await offered(rig), code="abc")
        code, noted, said = await pasted(line, tmp_path)
    assert (code, unserved) == (0, ""), said
    (wheel,) = (tmp_path / ".local/share/swarmtop").glob("*.whl")
    assert noted == [
        f"uv tool install --quiet --force --python >=3.11,<3.15 ./{wheel.name}[torch,quic] invite=none",
        "uv tool dir --bin invite=abc",
        f"swarm-probe --join 127.0.0.1:{rig.port} invite=abc",
    ]
    assert wheel.read_bytes() == wheel_of_this().data


@pytest.mark.parametrize("part", ["script", "wheel"])
async def test_nothing_is_installed_that_the_line_does_not_name(tmp_path: Path, part: str) -> None:
    async with collector(tmp_path) as rig:
        found = await offered(rig)
        other = "f" * 64
        found = Served(other, found.wheel_sha256) if part == "script" else Served(found.script_sha256, other)
        code, noted, said = await pasted(invite_line("127.0.0.1", rig.port, found=found)[0], tmp_path)
    assert (code, noted) == (1, [])
    assert ("no join.sh as this invite names it" if part == "script" else "another version than this invite") in said


async def test_a_wheel_that_is_swapped_under_its_name_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with collector(tmp_path) as rig:
        found = await offered(rig)
        line = invite_line("127.0.0.1", rig.port, found=found)[0]
        monkeypatch.setattr(downloads.Wheel, "sha256", property(lambda _: found.wheel_sha256))
        name = wheel_of_this().name
        swapped = downloads.Wheel(name, b"something else")
        monkeypatch.setattr(downloads.Downloads, "_made", lambda _: asyncio.sleep(0, swapped))
        code, noted, said = await pasted(line, tmp_path)
    assert (code, noted) == (1, [])
    assert "is not what the invite says: somebody may be in between" in said


def test_the_wheel_is_the_same_each_time_and_its_record_names_each_file() -> None:
    wheel = wheel_of_this()
    assert wheel == wheel_of_this()
    with zipfile.ZipFile(io.BytesIO(wheel.data)) as archive:
        folder = wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
        rows = dict(row.split(",", 1) for row in archive.read(f"{folder}/RECORD").decode().splitlines())
        assert rows.keys() == set(archive.namelist())
        for name, row in rows.items():
            if row != ",":
                digest = base64.urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest()).decode().rstrip("=")
                assert row.startswith(f"sha256={digest},"), name
        assert archive.read("swarm_probe/cli.py") == Path(swarm_probe.cli.__file__).read_bytes()
        version = wheel.name.split("-")[1]
        assert f"\nVersion: {version}\n" in archive.read(f"{folder}/METADATA").decode()
        assert {"swarm_collector/downloads/join.sh", f"{folder}/entry_points.txt"} <= rows.keys()


async def test_an_operator_can_serve_no_wheel_and_the_line_names_another_source(tmp_path: Path) -> None:
    async with collector(tmp_path, wheel=downloads.NO_WHEEL) as rig:
        found = await asyncio.to_thread(served, "127.0.0.1", rig.port, "", tls=False)
    assert found == "this collector serves no wheel (--wheel none)"
    line, unserved = invite_line("10.0.0.5", 9470, found=found, token="s 1", torch=False)
    assert (line, unserved) == (
        "pip install 'swarmtop[quic]' && SWARMTOP_TOKEN='s 1' swarm-probe --join 10.0.0.5:9470",
        found,
    )


async def test_a_crowd_that_asks_again_and_again_is_slowed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "AT_ONCE", 2.0)
    monkeypatch.setattr(downloads, "PER_S", 1e-6)
    async with collector(tmp_path) as rig, aiohttp.ClientSession() as session:
        codes = []
        for _ in range(3):
            async with session.get(f"http://127.0.0.1:{rig.port}/wheel") as response:
                codes.append(response.status)
                size = len(await response.read())
    assert codes == [200, 200, 503]
    assert size < 100


def test_the_line_checks_enough_of_the_scripts_hash() -> None:
    assert CHECKED * 4 >= 128
