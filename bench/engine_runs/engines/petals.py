"""Run Petals 2.2.0 from PyPI's wheels: a client and two servers with a DHT of their own. No compiler, no model hub."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.engine_runs.engines import cache
from bench.engine_runs.runs import (
    IDLE_MS,
    MODEL_FOLDER,
    PROMPT_TOKENS,
    STEPS,
    WARM_UP_STEPS,
    Case,
    Say,
    Times,
)
from bench.engine_runs.session import Session
from swarm_lab.lab import Lab
from swarm_lab.verification.race import WEIGHTS, RaceError
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Stage, Workload

HERE: Final = Path(__file__).parent
VERSION: Final = "petals-2.2.0"
PREFIX: Final = "bench-llama"
PORT: Final = 31337
START_TIMEOUT_S: Final = 180.0
RUN_TIMEOUT_S: Final = 240.0
OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


class Petals:
    name = "petals"
    sends_weights = False  # each server reads its own
    networks: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._sessions: dict[Path, Session] = {}  # clients, by the lab's folder

    @property
    def _home(self) -> Path:
        return cache.folder() / VERSION

    @property
    def _python(self) -> str:
        return str(self._home / "bin" / "python")

    @property
    def _checkpoint(self) -> Path:
        return self._home / PREFIX

    def prepare(self, say: Say) -> None:
        done, log = self._home / "ready", cache.folder() / f"{VERSION}.log"
        if done.exists():
            return
        say(f"installing {VERSION} into {self._home} (some minutes; {log} tells)")
        cache.step([sys.executable, "-m", "venv", self._home], log)
        pins = HERE / "pins" / "petals.txt"
        cache.step([self._python, "-m", "pip", "install", "--no-deps", "--requirement", pins], log)
        (site,) = (self._home / "lib").glob("python*/site-packages")
        (site / "sitecustomize.py").write_text((HERE / "petals_site.py").read_text())
        config = MODEL_FOLDER / "config.json"
        cache.step([self._python, HERE / "petals_worker.py", "checkpoint", config, self._checkpoint], log, OFFLINE)
        done.touch()

    def cases(self, model: ModelShape) -> tuple[Case, ...]:
        half = model.layers // 2
        servers = (Stage("b", 0, half - 1), Stage("c", half, model.layers - 1))
        load = Workload(
            weights=WEIGHTS, engine="petals", activations="fp32", client="a", prompt=PROMPT_TOKENS,
            context=PROMPT_TOKENS + STEPS // 2,
        )  # fmt: skip
        return (Case("two servers", servers, load),)

    async def start(self, lab: Lab, cases: Sequence[Case], model: ModelShape) -> None:
        """Start the servers one after the other, then the client, which finds them in their DHT."""
        (case,) = cases
        question = {
            "own": lab.hosts["a"].net.address,
            "folder": str(self._checkpoint), "prefix": PREFIX, "peers": [await self._start_servers(lab, case)],
            "prompt_tokens": PROMPT_TOKENS, "steps": WARM_UP_STEPS + STEPS, "idle_ms": IDLE_MS, "vocab": model.vocab,
        }  # fmt: skip
        words = ["-P", str(HERE / "petals_worker.py"), "client", json.dumps(question)]  # this folder has a petals.py
        client = lab.start("a", words, "engine.log", talk=True, first=True, program=self._python, variables=OFFLINE)
        session = Session(client, lab.hosts["a"].folder / "engine.log")
        await session.ready(START_TIMEOUT_S)
        self._sessions[lab.folder] = session

    async def run(self, lab: Lab, case: Case, model: ModelShape) -> Times:
        return await self._sessions[lab.folder].run(RUN_TIMEOUT_S)

    async def _start_servers(self, lab: Lab, case: Case) -> str:
        """Return the first one's address."""
        peer = ""
        for stage in case.placement:
            address = lab.hosts[stage.node].net.address
            words = ["-m", "petals.cli.run_server", str(self._checkpoint), "--dht_prefix", PREFIX]
            words += ["--block_indices", f"{stage.first}:{stage.last + 1}", "--device", "cpu"]
            words += ["--torch_dtype", "float32", "--throughput", "10"]  # auto would test the speed on the internet
            words += ["--host_maddrs", f"/ip4/{address}/tcp/{PORT}"]
            words += ["--initial_peers", peer] if peer else ["--new_swarm"]
            server = lab.start(stage.node, words, "server.log", first=True, program=self._python, variables=OFFLINE)
            said = await self._until_started(server, lab.hosts[stage.node].folder / "server.log")
            if not peer:
                found = re.search(rf"/ip4/{re.escape(address)}/tcp/{PORT}/p2p/\w+", said)
                if found is None:
                    raise RaceError("petals' first server does not say its address")
                peer = found[0]
        return peer

    async def _until_started(self, server: subprocess.Popen[bytes], log: Path) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            said = await asyncio.to_thread(log.read_text)
            if "[INFO] Started" in said:
                return said
            if server.poll() is not None:  # not every traceback in its log is its end: it looks for updates too
                raise RaceError(f"a server of petals ended: {said.strip().splitlines()[-1]}")
            await asyncio.sleep(0.2)
        raise RaceError(f"a server of petals is not up within {START_TIMEOUT_S:.0f} s")
