"""/health and acknowledgements report a failing store: files removed, damage, a dead writer."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from collector_rig import WAIT_S, Probe, Rig, collector, note, probe_at
from test_collector_process import PROCESS_S, Child, details, refusal, running, start

from swarm_protocol.messages.probe_messages import Ack, SlowDown


async def health_of(port: int) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/health") as response,
    ):
        return response.status, await response.json()


async def until_health(port: int, status: int) -> dict[str, Any]:
    async with asyncio.timeout(PROCESS_S):
        while True:
            found, health = await health_of(port)
            if found == status:
                return health
            await asyncio.sleep(0.05)


class Load:
    """A probe that sends without pause, keeps what is not acknowledged, and waits no longer than requested."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.acknowledged = 0
        self.turned_away = 0
        self.at_ns = time.time_ns()

    async def run(self, seconds: float = 60.0, until_refused: bool = False) -> None:
        async with asyncio.timeout(seconds):
            while True:
                seq = self.acknowledged + 1
                await self.probe.batch(seq, note(self.at_ns + seq, f"batch {seq}"))
                answer = await self.probe.next(Ack | SlowDown)
                if isinstance(answer, SlowDown):
                    self.turned_away += 1
                    if until_refused:
                        return
                    await asyncio.sleep(0.1)
                else:
                    self.acknowledged = max(self.acknowledged, answer.seq)

    async def acknowledge(self, more: int) -> None:
        goal = self.acknowledged + more
        task = asyncio.ensure_future(self.run())
        async with asyncio.timeout(PROCESS_S):
            while self.acknowledged < goal:  # noqa: ASYNC110 - the task above has no event for it
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def loaded(child: Child) -> Any:
    async with probe_at(child.port, "kiln") as probe:
        await probe.welcome()
        load = Load(probe)
        await load.acknowledge(20)
        yield load


def remove(folder: Path) -> None:
    """`rm swarm.db*`"""
    for path in folder.glob("swarm.db*"):
        path.unlink()


def overwrite(path: Path) -> None:
    """All pages but the first."""
    pages = path.stat().st_size // 4096 - 1
    arguments = ["if=/dev/urandom", f"of={path}", "bs=4096", "seek=1", f"count={pages}", "conv=notrunc"]
    subprocess.run(["dd", *arguments], check=True, timeout=60, capture_output=True)


def missing(load: Load, stored: list[str]) -> set[str]:
    return {f"batch {i}" for i in range(1, load.acknowledged + 1)} - set(stored)


# ---------------------------------------------------------------- other programs

PYTHON = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM node').fetchall(); c.close()"
CLIENTS = {
    "python": [sys.executable, "-c", PYTHON],
    "sqlite3": ["sqlite3", "-cmd", "SELECT count(*) FROM node"],
    "exclusive": ["sqlite3", "-cmd", "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; SELECT 1; COMMIT"],
}  # fmt: skip


@pytest.mark.parametrize("client", CLIENTS)
async def test_nothing_acknowledged_is_lost_with_another_program_and_kill_9(client: str, tmp_path: Path):
    if client != "python" and shutil.which("sqlite3") is None:
        pytest.skip("no sqlite3 here")
    child = await start(tmp_path)
    async with loaded(child) as load:
        for _ in range(5):
            process = await asyncio.create_subprocess_exec(
                *CLIENTS[client], str(tmp_path / "swarm.db"), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            sending = asyncio.ensure_future(load.run())
            await process.wait()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await load.acknowledge(10)
        child.process.kill()
    await child.ended()
    async with running(tmp_path) as child:  # the log is folded in, as after any crash
        child.process.terminate()
        assert await child.ended() == 0
    assert missing(load, details(tmp_path)) == set()
    with contextlib.closing(sqlite3.connect(tmp_path / "swarm.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# ---------------------------------------------------------------- files taken away


async def test_a_removed_store_is_reported_and_nothing_more_is_acknowledged(tmp_path: Path):
    async with running(tmp_path) as child:
        async with loaded(child) as load:
            remove(tmp_path)
            await load.run(until_refused=True)
            acknowledged = load.acknowledged
            health = await until_health(child.port, 503)
            assert "swarm.db was removed or moved while it was written to" in health["store"]
            with contextlib.suppress(TimeoutError):
                await load.run(seconds=3.0)
            assert load.acknowledged == acknowledged
        child.process.terminate()
        assert await child.ended() == 0
    (tmp_path / "swarm.db.saved-1").rename(tmp_path / "swarm.db")
    assert missing(load, details(tmp_path)) == set()  # not even what was acknowledged before


async def test_a_removed_store_is_reported_while_nothing_comes(tmp_path: Path):
    async with running(tmp_path) as child:
        assert (await health_of(child.port))[0] == 200
        remove(tmp_path)
        await until_health(child.port, 503)
        async with asyncio.timeout(WAIT_S):
            while not any("nothing is stored now" in line for line in child.log):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_removed_log_costs_nothing(tmp_path: Path):
    async with running(tmp_path) as child:
        async with loaded(child) as load:
            for suffix in ("-wal", "-shm"):
                (tmp_path / f"swarm.db{suffix}").unlink()
            await load.acknowledge(10)
            await until_health(child.port, 200)
            await load.acknowledge(10)
        child.process.kill()
        await child.ended()
    assert missing(load, details(tmp_path)) == set()


# ---------------------------------------------------------------- damage


async def test_overwritten_pages_stop_intake_for_good_and_the_next_start_is_one_line(tmp_path: Path):
    path = tmp_path / "swarm.db"
    async with running(tmp_path) as child:
        async with loaded(child) as load:
            overwrite(path)
            health = await until_health(child.port, 503)
            assert "damaged" in health["store"]
            assert "swarmtop backup" in health["store"]
            await load.run(until_refused=True)  # hears what was acknowledged before, too
            acknowledged = load.acknowledged
            with contextlib.suppress(TimeoutError):
                await load.run(seconds=7.0)  # longer than any pause before it is tried again
            assert load.acknowledged == acknowledged
            assert (await health_of(child.port))[0] == 503
        child.process.terminate()
        assert await child.ended() == 0
        assert not any("Traceback" in line for line in child.log)
    line = refusal(tmp_path, "--listen", "127.0.0.1:0")
    assert line.startswith(f"swarm-collector: {path} is damaged (")


# ---------------------------------------------------------------- parts that die


async def test_a_dead_writer_is_reported_and_restarted(tmp_path: Path):
    async with collector(tmp_path) as rig, rig.probe("kiln") as probe:
        await probe.batch(1, note(1, "one"))
        await probe.acked(1)
        thread = rig.swarm_state.store_client._writer._thread
        assert thread.ident is not None
        # Once: a second one would meet the thread on its way out, in whatever reports how it ended.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
        while thread.is_alive():
            with rig.swarm_state.store_client._writer._wake:
                rig.swarm_state.store_client._writer._wake.notify()
            await asyncio.sleep(0.01)
        assert (await health_of(rig.port))[0] == 503
        health = await until_health(rig.port, 200)
        assert "writing to the store" in health["restarted"]
        await probe.batch(2, note(2, "two"))
        await probe.acked(2)


async def _end_of(rig: Rig, name: str) -> None:
    rig.server.parts._tasks[name].cancel()
    async with asyncio.timeout(WAIT_S):
        while name not in rig.server.parts.troubles or rig.server.parts.down:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ["checking the store", "sending plans", "sending frames", "surveying", "challenging"])
async def test_long_lived_tasks_that_end_are_reported_and_restarted(name: str, tmp_path: Path):
    async with collector(tmp_path) as rig:
        await _end_of(rig, name)
        status, health = await health_of(rig.port)
        assert status == 200
        assert list(health["restarted"]) == [name]
        async with rig.probe("kiln") as probe:
            await probe.welcome()


async def test_what_dies_again_and_again_ends_the_collector_with_an_exit_code(tmp_path: Path):
    code = (
        "from swarm_collector import cli\n"
        "from swarm_collector.services import periodic_tasks\n"
        "async def broken(self): raise ValueError('no such thing')\n"
        "periodic_tasks.PeriodicTasks.dispatch = broken\n"
        f"cli.main(['--state', {str(tmp_path)!r}, '--listen', '127.0.0.1:0'])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PROCESS_S):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"sending plans ended (ValueError: no such thing)" in said
    assert said.decode().splitlines()[-1].startswith("swarm-collector: internal error (PartFailed)")
