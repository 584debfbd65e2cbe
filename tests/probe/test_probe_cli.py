"""The command `swarm-probe` as a process: output, exit codes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_collector import FakeCollector

from swarm_collector.scheduling import measurement_plan, transfer_leases
from swarm_probe.cli import main
from swarm_probe.owner_reports import dry_run
from swarm_protocol.messages.probe_messages import Batch, Heartbeat, Hello, Leaving, Refused


@pytest.fixture
async def collector() -> AsyncIterator[FakeCollector]:
    fake = await FakeCollector().start()
    yield fake
    await fake.stop()


class Probe:
    """A real `swarm-probe`, and its stderr line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def line_with(self, part: str) -> str:
        assert self.process.stderr is not None
        async with asyncio.timeout(90):
            while data := await self.process.stderr.readline():
                self.lines.append(data.decode().rstrip())
                if part in self.lines[-1]:
                    return self.lines[-1]
        raise AssertionError(f"no line with {part!r} among {self.lines}")

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(90):
            _, stderr = await self.process.communicate()
            self.lines += stderr.decode().splitlines()
        assert self.process.returncode is not None
        return self.process.returncode


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[object]:
    probes: list[Probe] = []

    async def begin(*arguments: str, token: str = "") -> Probe:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "swarm_probe", "--state", str(tmp_path / "state"), *arguments,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "SWARMTOP_TOKEN": token},
        )  # fmt: skip
        probes.append(Probe(process))
        return probes[-1]

    yield begin
    for probe in probes:
        if probe.process.returncode is None:
            probe.process.kill()
            await probe.process.wait()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "swarm_probe", *arguments], capture_output=True, text=True, check=False, timeout=90
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)])
async def test_a_stopped_probe_says_goodbye_and_ends_with_the_promised_code(
    collector: FakeCollector, start, number: signal.Signals, code: int
) -> None:
    probe = await start("--join", f"127.0.0.1:{collector.port}", "--name", "kiln-07", token="secret-token")
    await probe.line_with("joined")
    assert await probe.end(number) == code
    assert collector.of(Leaving)
    assert collector.of(Hello)[0].token == "secret-token"
    assert "secret-token" not in "\n".join(probe.lines)


async def test_two_probes_never_share_a_state_folder(collector: FakeCollector, start, tmp_path: Path) -> None:
    first = await start("--join", f"127.0.0.1:{collector.port}")
    await first.line_with("joined")
    second = await start("--join", f"127.0.0.1:{collector.port}")
    assert await second.ended() == 2
    assert second.lines == [
        f"swarm-probe: a probe (process {first.process.pid}) already runs with the state in {tmp_path / 'state'}; "
        "stop it or give --state another folder"
    ]
    assert len(collector.of(Hello)) == 1


async def test_a_killed_probe_starts_again_as_the_same_node_and_loses_nothing(collector: FakeCollector, start) -> None:
    collector.acknowledge = False
    first = await start("--join", f"127.0.0.1:{collector.port}")
    await collector.hears(Batch)
    first.process.kill()
    await first.ended()
    collector.acknowledge = True
    heard = len(collector.heard)
    second = await start("--join", f"127.0.0.1:{collector.port}")
    await second.line_with("joined")
    await collector.until(lambda: any(isinstance(m, Batch) and m.seq == 1 for m in collector.heard[heard:]))
    before, after = collector.of(Hello)
    assert (before.public_key, before.epoch) == (after.public_key, after.epoch)


async def test_a_wrong_token_ends_it_with_one_line(collector: FakeCollector, start) -> None:
    collector.refuse = Refused(reason="wrong token", final=True)
    probe = await start("--join", f"127.0.0.1:{collector.port}", token="no")
    assert await probe.ended() == 2
    assert probe.lines[-1] == f"swarm-probe: 127.0.0.1:{collector.port} refused this probe: wrong token"
    assert sum("refused" in line for line in probe.lines) == 1


async def test_an_absent_collector_is_one_line_however_often_it_is_tried(collector: FakeCollector, start) -> None:
    await collector.stop()
    probe = await start("--join", f"127.0.0.1:{collector.port}")
    await probe.line_with("cannot reach")
    await collector.start()
    await probe.line_with("joined")
    said = [line[9:] for line in probe.lines]
    assert said == [  # nothing is measured before there was a plan
        f"connecting to 127.0.0.1:{collector.port}",
        f"cannot reach 127.0.0.1:{collector.port} (Connection refused); "
        "trying again: is a collector running there, and its port open?",
        said[-1],
    ]
    assert await probe.end(signal.SIGTERM) == 0


async def test_status_shows_a_running_probe_and_says_if_none_runs(
    collector: FakeCollector, start, tmp_path: Path
) -> None:
    state = str(tmp_path / "state")
    none = await asyncio.to_thread(run, "status", "--state", state)
    assert (none.returncode, none.stdout) == (3, "")
    assert none.stderr == (
        f"swarm-probe: no probe runs with the state in {state}; start one with swarm-probe --join HOST:PORT\n"
    )
    probe = await start("--join", f"127.0.0.1:{collector.port}", "--name", "kiln-07")
    await collector.hears(Heartbeat)
    shown = await asyncio.to_thread(run, "status", "--state", state)
    assert shown.returncode == 0
    assert re.search(rf"^collector +joined 127.0.0.1:{collector.port} as kiln-07 \(node ", shown.stdout, re.MULTILINE)
    assert [line.split()[0] for line in shown.stdout.splitlines()] == [
        "probe", "since", "collector", "plan", "udp", "layers", "spool", "tests", "traffic",
        "computing", "machine", "today", "counted",
    ]  # fmt: skip
    await probe.end(signal.SIGKILL)
    after = await asyncio.to_thread(run, "status", "--state", state)
    assert after.returncode == 3


async def test_status_finds_the_probe_that_swarmtop_has_started(
    collector: FakeCollector, start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who follows the README has `make run` first, and `swarm-probe status` said that no probe runs."""
    monkeypatch.setenv("SWARMTOP_HOME", str(tmp_path))
    own, embedded = tmp_path / "probe", tmp_path / "local" / "probe"
    none = await asyncio.to_thread(run, "status")
    assert none.stderr == (
        f"swarm-probe: no probe runs with the state in {own} or in {embedded}; "
        "start one with swarm-probe --join HOST:PORT\n"
    )
    await start("--join", f"127.0.0.1:{collector.port}", "--name", "kiln-07", "--state", str(embedded))
    await collector.hears(Heartbeat)
    shown = await asyncio.to_thread(run, "status")
    assert (shown.returncode, "as kiln-07" in shown.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "swarm-probe: the following arguments are required: --join; see swarm-probe --help"),
        (
            ("--join", "h:x"),
            "swarm-probe: --join 'h:x': Port could not be cast to integer value as 'x'; give HOST:PORT",
        ),
        (("--join", "h", "--nmae", "x"), "swarm-probe: unrecognized arguments: --nmae x; see swarm-probe --help"),
        (("--join", "h", "--offer-gib", "0"), "swarm-probe: argument --offer-gib: 0 is not a size in GiB above 0;"),
        (("--join", "h", "--token", "\x1b"), "swarm-probe: the token is invalid: it has 1 characters, at most 200"),
        (("status", "--staet", "x"), "swarm-probe status: unrecognized arguments: --staet x; see swarm-probe status"),
    ],
)
def test_unusable_arguments_are_one_line_and_exit_2(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    shown = capsys.readouterr()
    assert (code, shown.out, shown.err.count("\n")) == (2, "", 1)
    assert shown.err.startswith(line)


def test_an_unusable_state_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--join", "127.0.0.1:9", "--state", str(tmp_path / "file" / "state"))
    assert done.returncode == 2
    assert done.stderr == (
        f"swarm-probe: cannot use {tmp_path}/file/state (Not a directory); give --state another folder\n"
    )


def test_a_state_folder_with_a_broken_key_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "node.key").write_bytes(b"short")
    done = run("--join", "127.0.0.1:9", "--state", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (f"swarm-probe: {tmp_path}/node.key holds no node key; delete it to create a new identity\n")


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "swarm-probe --join 203.0.113.7:9470 --name attic-3090" in capsys.readouterr().out


def test_dry_run_says_what_would_happen_and_leaves_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARMTOP_TOKEN", "secret-token")
    state = tmp_path / "state"
    assert main(["--join", "203.0.113.7:9470", "--name", "é x", "--state", str(state), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert not state.exists()
    assert "join     203.0.113.7:9470 as x, with a token" in shown.out
    assert "secret-token" not in shown.out
    sent = [line.split()[0].rstrip(":") for line in shown.out.splitlines() if ": at_ns, " in line]
    assert sent == ["link", "hop", "uplink", "compute", "roofline", "host", "event"]  # not `run`: no probe sends it
    assert shown.err == "swarm-probe: the name becomes x (A-Z a-z 0-9 . _ -, at most 32)\n"


def test_dry_run_counts_with_what_the_collector_really_asks() -> None:
    assert dry_run.PACKETS_PER_S == measurement_plan.IDLE_PACKETS_PER_S
    assert dry_run.WINDOW_PACKETS == measurement_plan.WINDOW_PACKETS
    assert dry_run.HOP_BYTES == measurement_plan.HOP_DAILY_BYTES
    assert dry_run.TRANSFER_BYTES == transfer_leases.DAILY_BYTES
    assert dry_run.HOST_EVERY_S == measurement_plan.IDLE_HOST_EVERY_MS / 1000
    assert sum(dry_run.daily_sent_bytes().values()) < 50_000_000
