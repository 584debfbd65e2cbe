"""Compare a prediction with the reference engine, run on a lab's hosts by the same placement.

The prediction is made before the engine starts and sees only what the collector stored.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from swarm_lab.engine.config import Draft, DriverConfig, DriverReport, EngineShape, StageConfig, Visit, WindowResult
from swarm_lab.lab import Lab
from swarm_lab.verification.contention import DISTURBED_CORES, Outsiders
from swarm_predict.cost.speculative import accepts
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.solve import plan
from swarm_predict.types import NotMeasured, Placement, PredictError, Prediction, Stage, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_MS
from swarm_storage.errors import StoreError
from swarm_storage.history.replay import swarm_at
from swarm_storage.store import open_store

WEIGHTS = "fp32"  # its format on a processor, and so the one that the lab's probes time
MEASURE_TIMEOUT_S = 300.0  # hosts time their layers one after the other
STAGE_TIMEOUT_S = 60.0  # loading weights on a machine that several hosts share
POLL_S = 0.5
PARTS = 8  # of a run of verify windows, each with a time per token of its own

Say = Callable[[str], None]


class RaceError(Exception):
    """The race could not be run; one line."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """One stage, predicted and measured: means, which add up to the mean of a token. Milliseconds; the last stage of a
    chain computes the LM head too."""

    node: str
    layers: int
    compute_predicted: float
    compute_measured: float
    hop_predicted: float
    hop_measured: float


@dataclass(frozen=True, slots=True)
class Race:
    engine: str
    prediction: Prediction
    tpot_ms: tuple[float, ...]  # measured, one a step
    ttft_ms: float
    stages: tuple[StageTimes, ...]
    others_cores: float  # of this machine, that programs outside the lab took meanwhile
    draft: str = ""  # guesses and windows in flight, as text
    lost: float | None = None  # share of verify windows behind a miss; None: nothing was guessed

    @property
    def tpot_p50_ms(self) -> float:
        """Return the median; where windows yield several tokens each, the mean over the run's parts."""
        return float(np.median(self.tpot_ms) if self.lost is None else np.mean(self.tpot_ms))

    @property
    def error(self) -> float:
        """Return (predicted − measured) / measured, of the p50 time per token."""
        return self.prediction.tpot_ms.p50 / self.tpot_p50_ms - 1

    @property
    def covered(self) -> bool:
        return self.prediction.tpot_ms.p5 <= self.tpot_p50_ms <= self.prediction.tpot_ms.p95


def measured_swarm(lab: Lab) -> Swarm:
    """Return what the collector has stored by now. Raises StoreError."""
    store = open_store(f"sqlite:///{lab.database}", read_only=True)
    try:
        return swarm_at(store.reader, time.time_ns(), source=lab.scenario.title)
    finally:
        store.close()


def missing(swarm: Swarm, lab: Lab, model: ModelShape) -> list[str]:
    """Return what a prediction still needs, in words; empty when every pair and every node is measured."""
    probes = [host.name for host in lab.scenario.host if host.probe]
    known = set(swarm.names)
    lacking = [f"{name} has not joined" for name in probes if name not in known]
    present = [swarm.index(name) for name in probes if name in known]
    for i in present:
        timed = {t.phase for t in swarm.facts[i].layers if t.model in (model.name, "*")}
        if not timed:
            lacking.append(f"layer time of {model.name} on {swarm.names[i]}")
        elif not {"head", "embed"} <= timed:  # they are timed last, so that no layer is timed while the engine runs
            lacking.append(f"LM head and embedding of {model.name} on {swarm.names[i]}")
        if np.isnan(swarm.nodes["up_mbps"][i]):
            lacking.append(f"uplink of {swarm.names[i]}")
        for j in present:
            if i != j and np.isnan(swarm.links["hop_p50_ms"][i, j]):
                lacking.append(f"hop {swarm.names[i]} → {swarm.names[j]}")
    return lacking


async def wait_until_measured(lab: Lab, model: ModelShape, say: Say, within_s: float = MEASURE_TIMEOUT_S) -> Swarm:
    """Wait until every pair and node is measured, or the time is up; then report what is missing."""
    deadline = time.monotonic() + within_s
    reported_count = -1
    while True:
        try:
            swarm = await asyncio.to_thread(measured_swarm, lab)
        except StoreError as error:
            raise RaceError(f"the lab's database cannot be read ({error})") from error
        lacking = missing(swarm, lab, model)
        if not lacking:
            return swarm
        if time.monotonic() > deadline:
            say(f"continuing without {len(lacking)} figures, e.g. {lacking[0]}")
            return swarm
        if len(lacking) != reported_count:
            reported_count = len(lacking)
            say(f"measuring: {reported_count} figures missing, e.g. {lacking[0]}")
        await asyncio.sleep(POLL_S)


def random_placement(nodes: list[str], model: ModelShape, rng: np.random.Generator) -> Placement:
    """Return some of the nodes in some order, layers split at random; every stage has one at least."""
    count = int(rng.integers(1, min(len(nodes), model.layers) + 1))
    chosen = [nodes[k] for k in rng.permutation(len(nodes))[:count]]
    cuts = np.sort(rng.choice(np.arange(1, model.layers), count - 1, replace=False)).tolist()
    firsts, lasts = [0, *cuts], [cut - 1 for cut in [*cuts, model.layers]]
    return tuple(Stage(node, first, last) for node, first, last in zip(chosen, firsts, lasts, strict=True))


def best_placement(swarm: Swarm, model: ModelShape, workload: Workload) -> Placement:
    """Return the best placement. Raises RaceError if there is none."""
    try:
        return plan(swarm, model, workload).prediction.placement
    except PredictError as error:
        raise RaceError(str(error)) from error


async def race(lab: Lab, swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, steps: int) -> Race:
    """Run a race. Raises RaceError if the engine or the prediction fails, NotMeasured if a figure is missing."""
    try:
        prediction = predict(swarm, model, placement, workload)
    except NotMeasured:
        raise
    except PredictError as error:
        raise RaceError(str(error)) from error
    watch = Outsiders()
    report, visits = await _run_engine(lab, model, placement, workload, steps)
    ahead = workload.draft_tokens > 0  # then a token is a share of a window, and stages work on several
    return Race(
        engine=workload.engine,
        prediction=prediction,
        tpot_ms=window_times(report.windows) if ahead else report.step_ms,
        ttft_ms=report.ttft_ms,
        stages=() if ahead else _stage_times(prediction, swarm, report, visits, workload.engine),
        others_cores=watch.cores(),
        draft=f"{workload.draft_tokens} guesses, {workload.windows} windows in flight" if ahead else "",
        lost=sum(not result.tokens for result in report.windows) / max(1, len(report.windows)) if ahead else None,
    )


def window_times(windows: Sequence[WindowResult]) -> tuple[float, ...]:
    """Return milliseconds a token over parts of a run, of about as many tokens each. Raises RaceError for too few."""
    valid = [result for result in windows if result.tokens]
    if len(valid) <= PARTS:
        raise RaceError(f"only {len(valid)} windows were verified; time more tokens with --steps")
    edges = np.linspace(0, len(valid) - 1, PARTS + 1).astype(int)
    return tuple(
        (valid[b].at_ns - valid[a].at_ns) / NS_PER_MS / sum(result.tokens for result in valid[a + 1 : b + 1])
        for a, b in itertools.pairwise(edges.tolist())
    )


async def _run_engine(
    lab: Lab, model: ModelShape, placement: Placement, workload: Workload, steps: int
) -> tuple[DriverReport, list[list[Visit]]]:
    warm_up = max(2, steps // 8)
    shape = EngineShape(
        layer=model.layer,
        layers=model.layers,
        vocab=model.vocab,
        capacity=workload.prompt + warm_up + steps + 1 + (workload.windows + 1) * (workload.draft_tokens + 1),
        head_at="last" if workload.engine == "chain" else "client",
        dtype=workload.weights,
        activations=workload.activations,
        seed=workload.seed,
    )
    stages: list[subprocess.Popen[bytes]] = []
    times_files = [lab.folder / f"stage-{k}.json" for k in range(len(placement))]
    try:
        for stage, times_file in zip(placement, times_files, strict=True):
            address = lab.hosts[stage.node].net.address
            config = StageConfig(shape, stage.first, stage.last, address, str(times_file))
            stages.append(_start(lab, stage.node, "swarm_lab.engine.worker", msgspec.json.encode(config)))
        ports = [await _port(process, stage) for process, stage in zip(stages, placement, strict=True)]
        client = workload.client or placement[0].node
        driver_config = DriverConfig(
            shape=shape,
            pattern="chain" if workload.engine == "chain" else "star",
            stages=tuple(
                (lab.hosts[stage.node].net.address, port) for stage, port in zip(placement, ports, strict=True)
            ),
            own_host=lab.hosts[client].net.address,
            prompt_tokens=workload.prompt,
            steps=warm_up + steps,
            warm_up_steps=warm_up,
            batch=workload.batch,
            draft=draft_of(workload),
        )
        driver = _start(lab, client, "swarm_lab.engine.driver", msgspec.json.encode(driver_config))
        stages.append(driver)
        assert driver.stdout is not None
        output = await asyncio.to_thread(driver.stdout.read)
        if await asyncio.to_thread(driver.wait) != 0:
            raise RaceError(f"the engine's client failed; see {lab.hosts[client].folder / 'engine.log'}")
        report = msgspec.json.decode(output, type=DriverReport)
        for process in stages:
            await asyncio.to_thread(process.wait, STAGE_TIMEOUT_S)
        visits = [msgspec.json.decode(file.read_bytes(), type=list[Visit]) for file in times_files]
        return report, visits
    finally:
        for process in stages:
            if process.poll() is None:
                process.kill()
                await asyncio.to_thread(process.wait)


def draft_of(workload: Workload) -> Draft | None:
    if not workload.draft_tokens:
        return None
    return Draft(
        workload.draft_tokens, accepts(workload), workload.draft_ms, windows=workload.windows, seed=workload.seed
    )


def _start(lab: Lab, host: str, module: str, config: bytes) -> subprocess.Popen[bytes]:
    process = lab.start(host, ["-m", module], "engine.log", talk=True, first=True)
    assert process.stdin is not None
    process.stdin.write(config)
    process.stdin.close()
    return process


async def _port(process: subprocess.Popen[bytes], stage: Stage) -> int:
    assert process.stdout is not None
    line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), STAGE_TIMEOUT_S)
    if not line.startswith(b"ready "):
        raise RaceError(f"the stage on {stage.node} did not start; its engine.log says why")
    return int(line.split()[1])


def _stage_times(
    prediction: Prediction, swarm: Swarm, report: DriverReport, visits: list[list[Visit]], engine: str
) -> tuple[StageTimes, ...]:
    """Time stages. Hops run from the end of the previous stage (through the client, in a star) to the arrival here."""
    reported = [{v.step: v for v in of_stage if v.step >= report.first_reported_step} for of_stage in visits]
    steps = sorted(reported[0])
    sent_ns = {hop.step: hop.sent_ns for hop in report.hops if hop.stage == 0}
    head_ms = prediction.breakdown_ms.head if engine == "chain" else 0.0  # a star's client computes it
    visit_ms = {
        name: float(np.nan_to_num(ms)) for name, ms in zip(swarm.names, swarm.nodes["overhead_ms"], strict=True)
    }
    rows = []
    for k, (cost, seen) in enumerate(zip(prediction.stages, reported, strict=True)):
        compute = [(seen[s].computed_ns - seen[s].received_ns) / NS_PER_MS for s in steps]
        began_ns = sent_ns if k == 0 else {s: reported[k - 1][s].computed_ns for s in steps}
        hops = [(seen[s].received_ns - began_ns[s]) / NS_PER_MS for s in steps]
        rows.append(
            StageTimes(
                node=cost.node,
                layers=cost.layers,
                compute_predicted=cost.compute_ms + visit_ms[cost.node] + (head_ms if k == len(reported) - 1 else 0.0),
                compute_measured=float(np.mean(compute)),
                hop_predicted=cost.hop_ms,
                hop_measured=float(np.mean(hops)),
            )
        )
    return tuple(rows)


def race_object(run: Race) -> dict[str, object]:
    """Return the object of --json."""
    measured = np.quantile(run.tpot_ms, (0.05, 0.5, 0.95)).tolist()
    return {
        "engine": run.engine,
        "placement": [{"node": s.node, "first": s.first, "last": s.last} for s in run.prediction.placement],
        "tpot_ms": {
            "predicted": {key: getattr(run.prediction.tpot_ms, key) for key in ("p5", "p50", "p95")},
            "measured": dict(zip(("p5", "p50", "p95"), measured, strict=True)),
        },
        "ttft_ms": {"predicted": run.prediction.ttft_ms.p50, "measured": run.ttft_ms},
        "tokens_per_s": {"predicted": run.prediction.tokens_per_s.p50, "measured": 1000 / run.tpot_p50_ms},
        "others_cores": run.others_cores,
        "error": run.error,
        "covered": run.covered,
        "draft": run.draft or None,
        "windows_lost": run.lost,
        "stages": [
            {
                "node": s.node,
                "layers": s.layers,
                "compute_ms": {"predicted": s.compute_predicted, "measured": s.compute_measured},
                "hop_ms": {"predicted": s.hop_predicted, "measured": s.hop_measured},
            }
            for s in run.stages
        ],
        "notes": list(run.prediction.notes),
    }


def race_text(run: Race) -> str:
    p = run.prediction.tpot_ms
    names = " → ".join(f"{s.node}:{s.first}-{s.last}" for s in run.prediction.placement)
    lines = [
        f"{run.engine}  {names}",
        f"  a token      predicted {p.p50:8.2f} ms ({p.p5:.2f} … {p.p95:.2f})   measured {run.tpot_p50_ms:8.2f} ms"
        f"   error {run.error:+.1%}   {'inside' if run.covered else 'OUTSIDE'} p5–p95",
        f"  first token  predicted {run.prediction.ttft_ms.p50:8.2f} ms   measured {run.ttft_ms:8.2f} ms",
        f"  {'STAGE':<16} LAYERS   COMPUTE ms predicted  measured     HOP ms predicted  measured",
    ]
    if run.lost is not None:
        lines[-1] = f"  {run.draft}: {run.lost:.0%} of them were lost behind a miss"
    if run.others_cores > DISTURBED_CORES:
        lines.insert(3, f"  disturbed: other programs of this machine took {run.others_cores:.1f} cores meanwhile")
    lines += [
        f"  {s.node:<16} {s.layers:>6} {s.compute_predicted:>22.3f} {s.compute_measured:>9.3f}"
        f" {s.hop_predicted:>20.3f} {s.hop_measured:>9.3f}"
        for s in run.stages
    ]
    return "\n".join(lines)


def dump(objects: list[dict[str, object]]) -> str:
    return json.dumps(objects, indent=2)
