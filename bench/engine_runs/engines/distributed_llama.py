"""Run distributed-llama on two machines, a root and a worker, built from its repository at one commit, with q40
weights.

It is in no package index: `prepare` clones it with git, unless its source lies in the cache already. Needs make and a
C++ compiler, and some minutes of one core.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.engine_runs.engines import cache
from bench.engine_runs.runs import IDLE_MS, MODEL_FOLDER, PROMPT_TOKENS, STEPS, WARM_UP_STEPS, Case, Say, Times
from bench.engine_runs.session import Session
from swarm_lab.lab import Lab
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Stage, Workload

HERE: Final = Path(__file__).parent
SOURCE: Final = "https://github.com/b4rtaz/distributed-llama"
COMMIT: Final = "8d624a7"
PORT: Final = 9990
START_TIMEOUT_S: Final = 300.0  # weights are sent first
RUN_TIMEOUT_S: Final = 240.0
LISTENING_S: Final = 1.0
GENTLE: Final = ("nice", "-n", "5")


class DistributedLlama:
    name = "distributed-llama"
    sends_weights = True
    networks: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._sessions: dict[Path, Session] = {}  # roots, by the lab's folder

    @property
    def _home(self) -> Path:
        return cache.folder() / f"distributed-llama-{COMMIT}"

    @property
    def _program(self) -> str:
        return str(self._home / "source" / "dllama_main")

    def prepare(self, say: Say) -> None:
        done, log = self._home / "ready", cache.folder() / f"distributed-llama-{COMMIT}.log"
        if done.exists():
            return
        source = self._home / "source"
        self._home.mkdir(exist_ok=True)
        say(f"building distributed-llama in {self._home} (some minutes of one core; {log} tells)")
        if not source.exists():
            cache.step(["git", "clone", "--quiet", SOURCE, source], log)
        cache.step(["git", "-C", source, "checkout", "--quiet", COMMIT], log)
        cache.step([*GENTLE, "make", "-C", source, "dllama"], log)
        objects = sorted(source.glob("*.o"))
        words: list[str | Path] = [
            "c++",
            "-O2",
            "-std=c++11",
            f"-I{source / 'src'}",
            HERE / "dllama_main.cpp",
            *objects,
        ]
        cache.step([*words, "-o", self._program, "-lpthread"], log)
        model, tokenizer = self._home / "bench-llama.m", self._home / "bench-llama.t"
        cache.step([sys.executable, HERE / "dllama_model.py", MODEL_FOLDER / "config.json", model, tokenizer], log)
        done.touch()

    def cases(self, model: ModelShape) -> tuple[Case, ...]:
        shares = tuple(Stage(host, 0, model.layers - 1) for host in "ab")
        load = Workload(
            weights="q4_0", engine="distributed-llama", prompt=PROMPT_TOKENS, context=PROMPT_TOKENS + STEPS // 2
        )
        return (Case("two machines", shares, load),)

    async def start(self, lab: Lab, cases: Sequence[Case], model: ModelShape) -> None:
        """Start the worker, and the root, which sends it its weights."""
        worker = ["0", "0", "0", "worker", "--port", str(PORT), "--nthreads", "1"]
        lab.start("b", worker, "server.log", first=True, program=self._program)
        await asyncio.sleep(LISTENING_S)
        words = [str(PROMPT_TOKENS), str(WARM_UP_STEPS + STEPS), str(int(IDLE_MS)), "inference"]
        words += ["--model", str(self._home / "bench-llama.m"), "--tokenizer", str(self._home / "bench-llama.t")]
        words += ["--buffer-float-type", "q80", "--nthreads", "1", "--max-seq-len", "512"]
        words += ["--workers", f"{lab.hosts['b'].net.address}:{PORT}"]
        root = lab.start("a", words, "engine.log", talk=True, first=True, program=self._program)
        session = Session(root, lab.hosts["a"].folder / "engine.log")
        await session.ready(START_TIMEOUT_S)
        self._sessions[lab.folder] = session

    async def run(self, lab: Lab, case: Case, model: ModelShape) -> Times:
        return await self._sessions[lab.folder].run(RUN_TIMEOUT_S)
