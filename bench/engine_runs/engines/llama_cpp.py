"""Run llama.cpp with one and two RPC servers, built from the sources in llama-cpp-python's distribution.

The first build takes a quarter of an hour of one core; it is kept in the cache. Needs cmake and a C++ compiler.
"""

from __future__ import annotations

import asyncio
import sys
import tarfile
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
    EngineUnavailable,
    Say,
    Times,
)
from bench.engine_runs.session import Session
from swarm_lab.lab import Lab
from swarm_lab.verification.race import WEIGHTS
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Stage, Workload

HERE: Final = Path(__file__).parent
RELEASE: Final = "0.3.36"  # of llama-cpp-python; ggml 0.25.3
PORT: Final = 50052
START_TIMEOUT_S: Final = 300.0  # weights are sent first
RUN_TIMEOUT_S: Final = 120.0
LISTENING_S: Final = 1.0
GENTLE: Final = ("nice", "-n", "5")
OPTIONS: Final = (
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_RPC=ON", "-DGGML_OPENMP=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_BUILD_APP=OFF",
)  # fmt: skip


class LlamaCpp:
    name = "llama.cpp"
    sends_weights = True
    networks: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._sessions: dict[tuple[Path, str], Session] = {}  # main hosts, by the lab's folder and the case

    @property
    def _home(self) -> Path:
        return cache.folder() / f"llama.cpp-{RELEASE}"

    @property
    def _binaries(self) -> Path:
        return self._home / "build" / "bin"

    @property
    def _model(self) -> Path:
        return self._home / "bench-llama.gguf"

    def prepare(self, say: Say) -> None:
        done, log = self._home / "ready", cache.folder() / f"llama.cpp-{RELEASE}.log"
        if done.exists():
            return
        source, build = self._home / "source", self._home / "build"
        self._home.mkdir(exist_ok=True)
        say(f"building llama.cpp in {self._home} (a quarter of an hour of one core; {log} tells)")
        if not source.exists():
            self._fetch(source, log)
        cache.step(["cmake", "-S", source, "-B", build, *OPTIONS], log)
        cache.step([*GENTLE, "cmake", "--build", build, "-j1", "--target", "ggml-rpc-server", "llama"], log)
        libraries = [f"-l{name}" for name in ("llama", "ggml-rpc", "ggml", "ggml-base", "ggml-cpu")]
        includes = [f"-I{source / 'ggml' / 'include'}", f"-I{source / 'include'}"]
        cache.step(
            ["c++", "-O2", "-std=c++17", *includes, HERE / "llama_main.cpp", "-o", self._binaries / "llama_main",
             f"-L{self._binaries}", *libraries, f"-Wl,-rpath,{self._binaries}"], log,
        )  # fmt: skip
        self._write_model(log)
        done.touch()

    def _fetch(self, source: Path, log: Path) -> None:
        words: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-binary",
            "llama-cpp-python",  # what reads its metadata may be wheels: else that is compiled too
            "--dest",
            self._home,
        ]
        cache.step([*words, f"llama-cpp-python=={RELEASE}"], log)
        archive = self._home / f"llama_cpp_python-{RELEASE}.tar.gz"
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(self._home, filter="data")
        except (OSError, tarfile.TarError) as error:
            raise EngineUnavailable(f"{archive} cannot be unpacked ({error})") from error
        (self._home / f"llama_cpp_python-{RELEASE}" / "vendor" / "llama.cpp").rename(source)

    def _write_model(self, log: Path) -> None:
        tools = self._home / "tools"  # an environment with gguf's requirements
        cache.step([sys.executable, "-m", "venv", tools], log)
        cache.step([tools / "bin" / "python", "-m", "pip", "install", "gguf==0.19.0"], log)
        writer: list[str | Path] = [tools / "bin" / "python", HERE / "gguf_model.py"]
        writer += [MODEL_FOLDER / "config.json", self._model]
        cache.step(writer, log)

    def cases(self, model: ModelShape) -> tuple[Case, ...]:
        half = model.layers // 2
        load = Workload(
            weights=WEIGHTS, engine="llama.cpp", activations="fp32", client="a", prompt=PROMPT_TOKENS,
            context=PROMPT_TOKENS + STEPS // 2,
        )  # fmt: skip
        two = (Stage("b", 0, half - 1), Stage("c", half, model.layers - 1))
        return (Case("two servers", two, load), Case("one server", (Stage("b", 0, model.layers - 1),), load))

    async def start(self, lab: Lab, cases: Sequence[Case], model: ModelShape) -> None:
        """Start servers and a main host for each case, which sends them their weights. A server answers one main host
        at a time, so each case has servers of its own."""
        for number, case in enumerate(cases):
            port = PORT + number
            for stage in case.placement:
                words = ["-H", lab.hosts[stage.node].net.address, "-p", str(port), "-t", "1"]
                lab.start(stage.node, words, "server.log", first=True, program=str(self._binaries / "ggml-rpc-server"))
            await asyncio.sleep(LISTENING_S)
            servers = ",".join(f"{lab.hosts[stage.node].net.address}:{port}" for stage in case.placement)
            counts = [stage.layers for stage in case.placement]
            counts[-1] += 1  # the output layer
            words = [
                str(self._model), servers, str(sum(counts)), ",".join(map(str, counts)), str(PROMPT_TOKENS),
                str(WARM_UP_STEPS + STEPS), str(int(IDLE_MS)),
            ]  # fmt: skip
            program = str(self._binaries / "llama_main")
            main = lab.start("a", words, "engine.log", talk=True, first=True, program=program)
            session = Session(main, lab.hosts["a"].folder / "engine.log")
            await session.ready(START_TIMEOUT_S)
            self._sessions[lab.folder, case.name] = session

    async def run(self, lab: Lab, case: Case, model: ModelShape) -> Times:
        return await self._sessions[lab.folder, case.name].run(RUN_TIMEOUT_S)
