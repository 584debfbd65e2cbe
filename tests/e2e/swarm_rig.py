"""Real processes on loopback: a collector, probes, and a viewer that waits for what it wants to see."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.sources.live import LiveSource

SEEN_WITHIN_S = 180.0  # layers are timed in turn, on cores that others use too; nothing waits for it to pass
TOKEN = "a token for tests"


class SwarmRig:
    """`folder` holds the database, each probe's state and all logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.collector: subprocess.Popen[bytes] | None = None
        self.probes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def database(self) -> Path:
        return self.folder / "swarm.db"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        # one thread each: the probes share two cores, and threads that wait for each other would spin
        return {
            **os.environ,
            "SWARMTOP_TOKEN": TOKEN,
            "SWARMTOP_HOME": str(self.folder / "home"),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.folder),  # where probes of one machine take turns: with each other, not with strangers
        }

    def spawn(self, log: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=self.environment(),
                start_new_session=True,
            )

    def start_collector(self, model: str) -> None:
        """On the port it had before, if it had one. Returns when it accepts connections."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        state = str(self.folder / "collector")
        self.collector = self.spawn(
            "collector.log", "swarm_collector", "--listen", self.address, "--store", f"sqlite:///{self.database}",
            "--model", model, "--weights", "fp32", "--ready-file", str(ready), "--state", state,
        )  # fmt: skip
        while not ready.exists():  # it is put there whole once connections are accepted
            if self.collector.poll() is not None:
                raise AssertionError((self.folder / "collector.log").read_text())
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.collector.wait(0.02)
        self.port = int(ready.read_text().strip().rpartition(":")[2])

    def start_probe(self, name: str, *options: str) -> None:
        self.probes[name] = self.spawn(
            f"{name}.log",
            "swarm_probe",
            "--join",
            self.address,
            "--name",
            name,
            "--state",
            str(self.folder / name),
            *options,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`swarmtop ARGUMENTS`, waited for."""
        command = [sys.executable, "-m", "swarmtop", *arguments]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=120, check=False)

    async def seen(self, wanted: Callable[[Swarm], bool], what: str) -> Swarm:
        """The first state in which `wanted` holds, as a viewer sees it. Fails with the logs when it never does."""
        source = LiveSource("127.0.0.1", self.port, token=TOKEN)
        last: list[Swarm] = []

        async def look() -> Swarm:
            async for swarm in source.frames():
                last[:] = [swarm]
                if wanted(swarm):
                    return swarm
            raise AssertionError("the stream of frames ended")

        try:
            return await asyncio.wait_for(look(), SEEN_WITHIN_S)
        except TimeoutError:
            logs = "\n".join(f"--- {p.name}\n{p.read_text()[-2000:]}" for p in sorted(self.folder.glob("*.log")))
            raise AssertionError(f"never seen: {what}\nlast state: {last}\n{logs}") from None
        finally:
            await source.close()

    def stop(self) -> None:
        everyone = [*self.probes.values(), *([self.collector] if self.collector else [])]
        for process in everyone:
            if process.poll() is None:
                process.terminate()
        for process in everyone:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise AssertionError("a process did not end on SIGTERM") from None
