"""`swarm-collector` as a process: its output, how it ends, and what survives kill -9 and a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from collector_rig import WAIT_S, note, probe_at
from websockets.exceptions import ConnectionClosed

from swarm_collector import cli
from swarm_collector.focus_model import model_of
from swarm_collector.options import Unusable, listen_address
from swarm_protocol.messages.probe_messages import Ack, SlowDown
from swarm_storage.store import open_store

PROCESS_S = 90.0  # for a process to start or end, on a machine as busy as can be; nothing waits for it to pass
linux_only = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="prlimit is Linux's")


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "swarm_collector", "--state", str(folder), *arguments]


def refusal(folder: Path, *arguments: str) -> str:
    """The one line a start that cannot be gets."""
    ended = subprocess.run(command(folder, *arguments), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return line


class Child:
    """A collector in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.log: list[str] = []
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode())

    async def ended(self) -> int:
        async with asyncio.timeout(PROCESS_S):
            code = await self.process.wait()
            await self._reading
        return code


async def start(folder: Path, *arguments: str, stdin: int | None = None) -> Child:
    process = await asyncio.create_subprocess_exec(
        *command(folder, "--listen", "127.0.0.1:0", *arguments), stderr=asyncio.subprocess.PIPE, stdin=stdin
    )
    assert process.stderr is not None
    async with asyncio.timeout(PROCESS_S):
        line = (await process.stderr.readline()).decode()
        while line and not line.startswith("listening on 127.0.0.1:"):
            line = (await process.stderr.readline()).decode()
    assert line, "the collector ended before it listened"
    return Child(process, int(line.rpartition(":")[2]))


@contextlib.asynccontextmanager
async def running(folder: Path, *arguments: str, stdin: int | None = None) -> AsyncIterator[Child]:
    child = await start(folder, *arguments, stdin=stdin)
    try:
        yield child
    finally:
        if child.process.returncode is None:
            child.process.kill()
        await child.ended()


def details(folder: Path) -> list[str]:
    store = open_store(f"sqlite:///{folder / 'swarm.db'}", read_only=True)
    with contextlib.closing(store):
        return [sample.detail for _, sample in store.reader.samples(kinds=("event",)) if sample.kind == "note"]


# ---------------------------------------------------------------- nothing acknowledged is lost


async def test_every_acknowledged_batch_survives_kill_9_once(tmp_path):
    """The probe here keeps what is not acknowledged and sends it again, as the real spool does."""
    rng = random.Random(8)
    child = await start(tmp_path)
    acknowledged, seq, at_ns = 0, 0, time.time_ns()
    for _ in range(4):
        kill_after = acknowledged + rng.randint(1, 12)
        with contextlib.suppress(ConnectionClosed, OSError):
            async with probe_at(child.port, "kiln") as probe:
                seq = (await probe.welcome()).committed_seq
                assert seq >= acknowledged
                while True:
                    for ahead in range(1, 5):
                        await probe.batch(seq + ahead, note(at_ns + seq + ahead, f"batch {seq + ahead}"))
                    seq += 4
                    acknowledged = max(acknowledged, (await probe.next(Ack)).seq)
                    if acknowledged >= kill_after:
                        child.process.kill()
        await child.ended()
        child = await start(tmp_path)
    child.process.terminate()
    assert await child.ended() == 0
    stored = details(tmp_path)
    assert acknowledged > 4
    assert len(stored) == len(set(stored))
    assert {f"batch {i}" for i in range(1, acknowledged + 1)} <= set(stored)


@linux_only
async def test_a_disk_that_is_full_stops_intake_not_the_collector_and_room_starts_it_again(tmp_path):
    async with running(tmp_path) as child, probe_at(child.port, "kiln") as probe:
        await probe.welcome()
        at_ns, seq = time.time_ns(), 0
        log = tmp_path / "swarm.db-wal"
        limit = log.stat().st_size + 200_000
        _, hard = resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE, (limit, hard))
        while True:
            seq += 1
            await probe.batch(seq, *(note(at_ns + 1000 * seq + i, f"{seq} {i} {'x' * 250}") for i in range(100)))
            answer = await probe.next(Ack | SlowDown)
            if isinstance(answer, SlowDown):
                break
        resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        async with asyncio.timeout(PROCESS_S):
            while isinstance(answer, SlowDown):  # as a probe does, but without its patience
                await probe.batch(seq, *(note(at_ns + 1000 * seq + i, f"{seq} {i} {'x' * 250}") for i in range(100)))
                answer = await probe.next(Ack | SlowDown)
        child.process.send_signal(signal.SIGTERM)
        assert await child.ended() == 0
    stored = details(tmp_path)
    assert len(stored) == len(set(stored)) == 100 * seq
    assert sum("nothing is stored now" in line for line in child.log) == 1
    assert sum("storing again (it was" in line for line in child.log) == 1


# ---------------------------------------------------------------- beginning and ending


async def test_sigterm_ends_it_in_order_and_tells_the_probes(tmp_path):
    async with running(tmp_path) as child, probe_at(child.port, "kiln") as probe:
        await probe.batch(1, note(time.time_ns(), "last words"))
        await probe.acked(1)
        child.process.terminate()
        assert (await probe.closed())[0] == 1001
        assert await child.ended() == 0
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / "swarm.db", copy)  # the file alone: an orderly end leaves nothing in the log beside it
    assert "last words" in details(copy)


async def test_ctrl_c_ends_it_in_order_as_interrupted(tmp_path):
    async with running(tmp_path) as child, probe_at(child.port, "kiln") as probe:
        await probe.welcome()
        child.process.send_signal(signal.SIGINT)
        assert (await probe.closed())[0] == 1001
        assert await child.ended() == 130


async def test_it_ends_with_the_parent_that_held_its_stdin(tmp_path):
    async with running(tmp_path, "--exit-with-parent", stdin=subprocess.PIPE) as child:
        assert child.process.stdin is not None
        child.process.stdin.close()
        assert await child.ended() == 0


async def test_it_ends_with_a_parent_that_was_killed(tmp_path):
    """No pipe here: the child of a killed program is adopted by another."""
    ready = tmp_path / "ready"
    arguments = command(tmp_path, "--listen", "127.0.0.1:0", "--exit-with-parent", "--ready-file", str(ready))
    script = (
        "import subprocess, sys, time; p = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL,"
        " stderr=subprocess.PIPE, text=True); print(p.pid, p.stderr.readline().strip(), flush=True); p.wait()"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid, *said = (await asyncio.wait_for(parent.stdout.readline(), 30)).decode().split()
    assert said[:2] == ["listening", "on"]
    async with asyncio.timeout(WAIT_S):
        while not ready.exists():  # noqa: ASYNC110 - no event says this
            await asyncio.sleep(0.01)
    assert ready.read_text().strip() == said[2]
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(WAIT_S):
        while (open_lock := locked(tmp_path / "swarm.db")) is not None:
            assert open_lock == int(pid)
            await asyncio.sleep(0.05)
    assert not ready.exists()  # who waits for the next collector must not find this one's


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--retian", "2d"], "unrecognized arguments: --retian 2d; see swarm-collector --help"),
        (["--retain", "-1h"], "argument --retain: expected one argument; see swarm-collector --help"),
        (["--transfers-a-day", "16"], "--transfers-a-day: 16 is less than 256KiB"),
    ],
)
def test_unusable_arguments_are_one_line(words, line):
    said = subprocess.run(
        [sys.executable, "-m", "swarm_collector", *words], capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout, said.stderr) == (2, "", f"swarm-collector: {line}\n")


async def test_the_ready_file_is_there_while_connections_are_accepted(tmp_path):
    """A script that starts the collector again and waits for the file went on before the collector was ready."""
    ready = tmp_path / "ready"
    ready.write_text("127.0.0.1:1\n")  # of a collector that was killed
    async with running(tmp_path, "--ready-file", str(ready)) as child:
        async with asyncio.timeout(WAIT_S):
            while not ready.exists():  # noqa: ASYNC110 - no event says this
                await asyncio.sleep(0.01)
        assert ready.read_text() == f"127.0.0.1:{child.port}\n"
        child.process.send_signal(signal.SIGTERM)
        assert await child.ended() == 0
    assert not ready.exists()


def locked(path: Path) -> int | None:
    """Return the process that writes this store; None: none does."""
    import fcntl

    with path.with_name(path.name + ".lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read())
    return None


async def test_an_open_collector_without_a_token_is_warned_of(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *command(tmp_path, "--listen", ":0"), stderr=asyncio.subprocess.PIPE, env=clean_environment()
    )
    assert process.stderr is not None
    async with asyncio.timeout(PROCESS_S):
        while b"give a token in $SWARMTOP_TOKEN" not in (line := await process.stderr.readline()):
            assert line
    process.terminate()
    assert await process.wait() == 0


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SWARMTOP")}


# ---------------------------------------------------------------- what cannot be


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refusal(tmp_path, "--listen", f"127.0.0.1:{port}") == (
            f"swarm-collector: cannot listen on 127.0.0.1:{port} (in use); stop what listens there, "
            "or give another --listen"
        )


def test_a_newer_database_is_one_line_and_stays_as_it_is(tmp_path):
    path = tmp_path / "swarm.db"
    open_store(f"sqlite:///{path}").close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    before = path.read_bytes()
    line = refusal(tmp_path, "--store", f"sqlite:///{path}")
    assert str(path) in line
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--listen", "nowhere.invalid:9470"], "unknown host name"),
        (["--listen", "127.0.0.1:70000"], "127.0.0.1:70000 has no port from 0 to 65535"),
        (["--model", "llama-9000b"], "llama-9000b"),
        (["--model", "/nowhere/config.json"], "cannot read /nowhere/config.json"),
        (["--weights", "fp17"], "fp17"),
        (["--store", "mysql://x"], "mysql"),
        (["--store", "sqlite:////nowhere/at/all/swarm.db"], "/nowhere/at/all"),
        (["--store", "sqlite:////dev/null/swarm.db"], "/dev/null"),
    ],
)
def test_invalid_arguments_give_one_line_each(tmp_path, arguments, says):
    assert says in refusal(tmp_path, *arguments)


def test_the_focus_can_be_a_model_of_a_file_and_is_planned_for(tmp_path):
    config = tmp_path / "my-llama" / "config.json"
    config.parent.mkdir()
    sizes = '"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4'
    config.write_text(f'{{"model_type": "llama", "vocab_size": 99, {sizes}}}')
    for given in (config, config.parent):
        focus = cli.focus_of(str(given), "fp32")
        assert (focus.model, focus.layer.hidden, focus.vocab) == ("my-llama", 64, 99)
        assert model_of(focus).layers == 3


def test_a_failure_of_ours_is_a_line_a_traceback_and_exit_1(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setattr(cli, "focus_of", lambda model, weights: 1 / 0)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--state", str(tmp_path)])
    assert ended.value.code == 1
    assert "swarm-collector: internal error (ZeroDivisionError)" in capsys.readouterr().err
    assert "ZeroDivisionError" in caplog.text


def test_two_collectors_on_one_store_are_distinguished(tmp_path):
    store = open_store(f"sqlite:///{tmp_path / 'swarm.db'}")
    with contextlib.closing(store):
        assert f"process {os.getpid()}" in refusal(tmp_path, "--listen", "127.0.0.1:0")


def test_help_shows_an_example_and_loads_neither_aiohttp_nor_numpy(tmp_path):
    script = (
        "import sys; from swarm_collector import cli\ntry: cli.main(['--help'])\n"
        "finally: print(sorted({'aiohttp', 'numpy', 'sqlite3'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0
    assert "example:\n  SWARMTOP_TOKEN=" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9470", "127.0.0.1", 9470),
        (":0", "0.0.0.0", 0),
        ("example.org", "example.org", 9470),
        ("[::1]:80", "::1", 80),
        ("[::1]", "::1", 9470),
    ],
)
def test_listen_addresses_as_people_write_them(text, host, port):
    assert listen_address(text) == (host, port)


@pytest.mark.parametrize("text", ["::1", "::1:9470", "host:port", "host:-1", "host:99999", "host:"])
def test_an_invalid_address_is_refused(text):
    with pytest.raises(Unusable, match="HOST:PORT"):
        listen_address(text)
