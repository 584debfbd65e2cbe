"""Run one engine on one network: measure with real probes, predict, then run the engine shaped and unshaped in turn."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from bench.engine_runs.networks import Network, unshaped
from swarm_lab.lab import Lab
from swarm_lab.verification.contention import Outsiders
from swarm_lab.verification.race import RaceError, measured_swarm, wait_until_measured
from swarm_predict.calibration.runs import ObservedRun, Refused, observe
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.posterior import Priors
from swarm_predict.types import Placement, PredictError, Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm

MODEL_FOLDER: Final = Path(__file__).parent / "bench-llama"  # a config.json: weights are made at random
PROMPT_TOKENS: Final = 16
STEPS: Final = 24
WARM_UP_STEPS: Final = 3
IDLE_MS: Final = 1500.0  # before the prompt, as requests come after a pause
# after every figure was measured once: hops and one-way delays get better with a few rounds, and a loss of one packet
# in two hundred is seen after some hundred round trips; probes of a swarm in use have had hours
SETTLING_S: Final = 120.0
RESTORED_S: Final = 2.0  # packets that were sent on the fast paths are through

Say = Callable[[str], None]


class EngineUnavailable(Exception):
    """The engine cannot be had or built here; one line that says why and what helps."""


@dataclass(frozen=True, slots=True)
class Case:
    """A placement of the engine on the three hosts, and the question that predicts it."""

    name: str
    placement: Placement
    workload: Workload
    steps: int = STEPS  # that are timed


@dataclass(frozen=True, slots=True)
class Times:
    """What one run of an engine took, in milliseconds; token_ms has one entry a decode step."""

    ttft_ms: float
    token_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return float(np.median(self.token_ms))


class Engine(Protocol):
    name: str
    sends_weights: bool  # over the network, when it is started
    networks: tuple[str, ...]  # that it is run on where none is named; empty: all

    def prepare(self, say: Say) -> None:
        """Find or build it. Raises EngineUnavailable."""

    def cases(self, model: ModelShape) -> tuple[Case, ...]: ...

    async def start(self, lab: Lab, cases: Sequence[Case], model: ModelShape) -> None:
        """Start what stays up between runs; it ends with the lab. Raises RaceError."""

    async def run(self, lab: Lab, case: Case, model: ModelShape) -> Times:
        """Run it once on these hosts. Raises RaceError."""


@dataclass(frozen=True, slots=True)
class Failed:
    engine: str
    case: str
    network: str
    why: str  # one line


@dataclass(frozen=True, slots=True)
class Run:
    """A case on a network, predicted and measured."""

    engine: str
    case: Case
    network: str
    swarm: Swarm  # as it was measured before the engine started
    model: ModelShape
    prediction: Prediction
    shaped: tuple[Times, ...]
    unshaped: tuple[Times, ...]
    others_cores: float  # that programs outside the labs took meanwhile
    machine: str = ""  # its processor; empty: the present one

    @property
    def series(self) -> tuple[str, str, str]:
        """Return what runs have in common that one of them says something of: the placement, on one machine."""
        return self.engine, self.case.name, self.machine

    @property
    def measured_ms(self) -> float:
        return float(np.median([times.median_ms for times in self.shaped]))

    @property
    def compute_ms(self) -> float:
        """Measured without a network: computation and the engine's own software."""
        return float(np.median([times.median_ms for times in self.unshaped]))

    @property
    def network_ms(self) -> float:
        return self.measured_ms - self.compute_ms

    def observed(self) -> ObservedRun | Refused:
        """Return what a calibration learns from this run. Raises PredictError."""
        label = f"{self.case.name} on {self.network}"
        speed = 1e3 / self.measured_ms
        return observe(label, speed, self.swarm, self.model, self.case.placement, self.case.workload)

    def predicted_with(self, priors: Priors) -> Prediction:
        workload = dataclasses.replace(self.case.workload, priors=priors)
        return predict(self.swarm, self.model, self.case.placement, workload)


async def race(
    engines: Sequence[Engine],
    network: Network,
    model: ModelShape,
    rounds: int,
    say: Say,
    settling_s: float = SETTLING_S,
) -> AsyncIterator[Run | Failed]:
    """Run every case of these engines on one network. Raises LabUnavailable, RaceError.

    Probes measure first and then stand still: what they compute and send would be taken from the engine, on cores that
    the hosts of the lab share. The unshaped twin has none either."""
    cases = [(engine, case) for engine in engines for case in engine.cases(model)]
    scenario, text = network.scenario(_text(cases[0][1].placement))
    bare, bare_text = unshaped()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swarmtop-engines-")))
        real = await stack.enter_async_context(
            Lab(scenario, text, folder / "real", say, model=str(MODEL_FOLDER), probes_first=True)
        )
        twin = await stack.enter_async_context(Lab(bare, bare_text, folder / "bare", say, model=str(MODEL_FOLDER)))
        await wait_until_measured(real, model, say)
        await asyncio.sleep(settling_s)
        swarm = await asyncio.to_thread(measured_swarm, real)
        real.freeze_probes()
        failed = await _started(engines, real, twin, model, say)
        for engine, case in cases:
            if engine.name in failed:
                continue
            try:
                yield await _run(engine, case, network, swarm, model, (real, twin), rounds)
            except (PredictError, RaceError) as error:
                yield Failed(engine.name, case.name, network.name, str(error))
        for name, why in failed.items():
            yield Failed(name, "start", network.name, why)


async def _started(engines: Sequence[Engine], real: Lab, twin: Lab, model: ModelShape, say: Say) -> dict[str, str]:
    """Start what stays up between runs, on fast paths as long as weights are sent; return why engines did not."""
    failed = {}
    restored = None
    for engine in sorted(engines, key=lambda engine: engine.sends_weights):
        if engine.sends_weights and restored is None:
            restored = asyncio.create_task(real.play_timeline())
        say(f"starting {engine.name}")
        try:
            await asyncio.gather(*(engine.start(lab, engine.cases(model), model) for lab in (real, twin)))
        except RaceError as error:
            failed[engine.name] = str(error)
    if restored is not None:
        await restored
        await asyncio.sleep(RESTORED_S)
    return failed


async def _run(
    engine: Engine, case: Case, network: Network, swarm: Swarm, model: ModelShape, labs: tuple[Lab, Lab], rounds: int
) -> Run:
    prediction = predict(swarm, model, case.placement, case.workload)
    watch = Outsiders()
    times: tuple[list[Times], list[Times]] = ([], [])
    for _ in range(rounds):
        for lab, found in zip(labs, times, strict=True):
            found.append(await engine.run(lab, case, model))
    return Run(
        engine=engine.name,
        case=case,
        network=network.name,
        swarm=swarm,
        model=model,
        prediction=prediction,
        shaped=tuple(times[0]),
        unshaped=tuple(times[1]),
        others_cores=watch.cores(),
    )


def _text(placement: Placement) -> str:
    return ",".join(f"{stage.node}:{stage.first}-{stage.last}" for stage in placement)
