"""Run torch.distributed over gloo: a pipeline of three hosts, and tensor parallel on two. Needs only torch."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import json
import subprocess
from collections.abc import Sequence
from typing import Final

import msgspec

from bench.engine_runs.engines.gloo_worker import Rank
from bench.engine_runs.runs import (
    IDLE_MS,
    PROMPT_TOKENS,
    STEPS,
    WARM_UP_STEPS,
    Case,
    EngineUnavailable,
    Say,
    Times,
)
from swarm_lab.engine.config import EngineShape
from swarm_lab.lab import Lab
from swarm_lab.verification.race import WEIGHTS, RaceError
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Stage, Workload

PORT: Final = 29611
RUN_TIMEOUT_S: Final = 180.0
SUMMED_STEPS: Final = 10  # of tensor parallel: a token is 48 messages in a row


class Gloo:
    name = "gloo"
    sends_weights = False
    networks: tuple[str, ...] = ()

    def prepare(self, say: Say) -> None:
        if importlib.util.find_spec("torch") is None:
            raise EngineUnavailable("torch is not installed; pip install 'swarmtop[torch]'")

    def cases(self, model: ModelShape) -> tuple[Case, ...]:
        third = model.layers // 3
        cuts = (0, third, 2 * third, model.layers)
        chain = tuple(Stage(host, cuts[k], cuts[k + 1] - 1) for k, host in enumerate("abc"))
        shares = tuple(Stage(host, 0, model.layers - 1) for host in "ab")
        usual = Workload(weights=WEIGHTS, engine="ring", context=PROMPT_TOKENS + STEPS // 2, prompt=PROMPT_TOKENS)
        # sums travel in the format of the weights
        summed = dataclasses.replace(usual, engine="tensor-parallel", activations="fp32", all_reduce="gloo")
        return (Case("pipeline", chain, usual), Case("tensor parallel", shares, summed, SUMMED_STEPS))

    async def start(self, lab: Lab, cases: Sequence[Case], model: ModelShape) -> None:
        """Nothing stays up: ranks make their own weights."""

    async def run(self, lab: Lab, case: Case, model: ModelShape) -> Times:
        shape = EngineShape(
            layer=model.layer,
            layers=model.layers,
            vocab=model.vocab,
            capacity=PROMPT_TOKENS + WARM_UP_STEPS + case.steps + 2,
            head_at="last",
            dtype=case.workload.weights,
            activations=case.workload.activations,
        )
        hosts = [stage.node for stage in case.placement]
        ranks: list[subprocess.Popen[bytes]] = []
        try:
            for rank, host in enumerate(hosts):
                process = lab.start(
                    host, ["-m", "bench.engine_runs.engines.gloo_worker"], "engine.log", talk=True, first=True
                )
                config = Rank(
                    shape=shape,
                    pattern="pipeline" if case.name == "pipeline" else "tensor-parallel",
                    rank=rank,
                    stages=tuple((stage.first, stage.last) for stage in case.placement),
                    meeting=f"{lab.hosts[hosts[0]].net.address}:{PORT}",
                    prompt_tokens=PROMPT_TOKENS,
                    steps=case.steps,
                    warm_up_steps=WARM_UP_STEPS,
                    idle_ms=IDLE_MS,
                )
                ranks.append(process)
                _configure(process, config)
            assert ranks[0].stdout is not None
            output = await asyncio.wait_for(asyncio.to_thread(ranks[0].stdout.read), RUN_TIMEOUT_S)
            for rank, process in enumerate(ranks):
                if await asyncio.to_thread(process.wait, RUN_TIMEOUT_S) != 0:
                    raise RaceError(f"rank {rank} failed: {_last_line(lab, hosts[rank])}")
        finally:
            for process in ranks:
                if process.poll() is None:
                    process.kill()
                    await asyncio.to_thread(process.wait)
        report = json.loads(output)
        return Times(report["ttft_ms"], tuple(report["token_ms"]))


def _configure(process: subprocess.Popen[bytes], config: Rank) -> None:
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(config))
    process.stdin.close()


def _last_line(lab: Lab, host: str) -> str:
    lines = (lab.hosts[host].folder / "engine.log").read_text().strip().splitlines()
    return lines[-1] if lines else "no word from it"
