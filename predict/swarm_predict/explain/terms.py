"""Divide one token's time into terms: the layers of each machine, the head, the software of each visit, and each path.

Each term has its draws, made by the same code as the prediction, so that its present and its usual range come from one
model. Terms of a pipeline are of its machines and paths; nodes that share every layer wait for each other, so theirs
are of the slowest share and of all rounds of messages together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from swarm_predict.cost.build import build_costs
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.machine.cards import with_one_size
from swarm_predict.cost.network.delivery_times import Links
from swarm_predict.cost.software_overhead import software_assumed
from swarm_predict.cost.speculative import drafting_ms, step_width, step_yield
from swarm_predict.forecast.draws import DOUBT_BOUND, DOUBT_ESTIMATED_RTT, Drawn, mirrored_normal
from swarm_predict.forecast.forward_pass.pipeline import Pipeline, Times
from swarm_predict.forecast.forward_pass.tensor_parallel import TensorParallel
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Placement, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm

TermKind = Literal["layers", "head", "visits", "path", "client", "proofs", "drafting", "unmodelled"]
NOTHING_MS: Final = 1e-9
BOUND_SPREAD: Final = DOUBT_BOUND * (1 - 2 / np.pi) ** 0.5  # of one side of a normal distribution


@dataclass(frozen=True, slots=True)
class Term:
    """A part of one token's time. `node` is its machine; a path goes from `node` to `to`."""

    kind: TermKind
    node: str
    ms: Floats  # (draws,) of one token
    measured: bool  # based on measurements (or on a swarm file), not on published results
    to: str = ""
    count: int = 1  # layers, or messages of a token
    quiet_ms: float | None = None  # of a path: its idle time and its bytes, without delay variation and losses
    restart_ms: float = 0.0  # of a path: in it, waiting for TCP's window after idle
    upload_ms: float = 0.0  # of a path: in it, its bytes
    size_bytes: float = 0.0  # of a path: its largest message
    doubt_ms: float = 0.0  # of a path: standard deviation of a token's time because its figures are estimates or bounds

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.kind, self.node, self.to)

    @property
    def typical_ms(self) -> float:
        """Return what it adds to the mean token: of a path the mean, which includes late and lost packets."""
        return float(self.ms.mean() if self.kind == "path" else np.median(self.ms))


def terms_of(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> tuple[Term, ...]:
    """Return the terms of a token. Raises NotMeasured, BadPlacement or PredictError, as `predict` does."""
    workload = with_one_size(swarm, model, placement, workload)
    if engine_facts(workload).pattern == "all-reduce":
        found = _of_shares(swarm, model, placement, workload)
    else:
        found = _of_stages(swarm, model, tuple(sorted(placement, key=lambda stage: stage.first)), workload)
    return (*(term for term in found if float(np.abs(term.ms).max()) > NOTHING_MS), *_unmodelled(found, workload))


def _of_stages(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> list[Term]:
    costs = build_costs(swarm, model, workload, [swarm.index(stage.node) for stage in placement])
    pipeline = Pipeline(swarm, model, placement, workload, costs)
    width, share = step_width(workload), 1 / step_yield(workload)
    times = pipeline.draw(pipeline.trips, costs.layer, workload.draws, width, pipeline.rests_ms())
    known, names = costs.layer.measured, pipeline.names
    found = [
        Term("layers", stage.node, times.stages[k] * share, known[k], count=stage.layers)
        for k, stage in enumerate(placement)
    ]
    home = len(placement) - 1 if costs.engine.head == "last" else costs.tables.client or 0
    found.append(Term("head", names[home], times.head * share, known[home]))
    found += _paths(pipeline, times, share)
    found += _visits(pipeline, times, share, workload)
    proofs_ms = workload.proof_ms * width * model.layers
    client = costs.tables.client
    draws = workload.draws
    found.append(Term("client", names[client or 0], np.full(draws, workload.client_ms * share), True))
    found.append(Term("proofs", "", np.full(draws, proofs_ms * share), True))
    found.append(Term("drafting", names[client or 0], np.full(draws, drafting_ms(workload) * share), True))
    return found


def _paths(pipeline: Pipeline, times: Times, share: float) -> list[Term]:
    """Return one term a directed path, whatever the number of its messages."""
    trips, links = pipeline.trips, pipeline.costs.links
    restart_ms = pipeline.restarts_ms(float(times.total.mean()))
    drawn = times.network
    measured = links.hop_known | ~(links.estimated | links.rate_free | links.rate_bound)
    found: dict[tuple[int, int], Term] = {}
    for at in dict.fromkeys((trip.src, trip.dst) for trip in trips):
        its = [k for k, trip in enumerate(trips) if (trip.src, trip.dst) == at]
        upload_ms, rested_ms = float(drawn.upload_ms[its].sum()), float(restart_ms[its].sum())
        found[at] = Term(
            kind="path",
            node=pipeline.names[at[0]],
            to=pipeline.names[at[1]],
            ms=(drawn.ms[:, its].sum(axis=1) + rested_ms) * share,
            measured=bool(measured[at]),
            count=len(its),
            quiet_ms=(float(drawn.rtt_ms[its].sum()) + upload_ms) * share,
            restart_ms=rested_ms * share,
            upload_ms=upload_ms * share,
            size_bytes=max(trips[k].size_bytes for k in its),
            doubt_ms=float(_doubt_ms(links, at, drawn, its)) * share,
        )
    return list(found.values())


def _doubt_ms(links: Links, at: tuple[int, int], drawn: Drawn, its: list[int]) -> float:
    """Return by how much measuring this path would reduce the spread: messages vary independently in the draws."""
    late_ms = drawn.rtt_ms[its] * (DOUBT_ESTIMATED_RTT if links.estimated[at] else 0.0)
    slow_ms = drawn.upload_ms[its] * (BOUND_SPREAD if links.rate_bound[at] and not links.hop_known[at] else 0.0)
    return float(np.sqrt(np.sum(late_ms**2 + slow_ms**2)))


def _visits(pipeline: Pipeline, times: Times, share: float, workload: Workload) -> list[Term]:
    """Return the software of every machine that receives a message, and the measured time of its visits."""
    costs, stages = pipeline.costs, len(pipeline.placement)
    assumed = software_assumed(pipeline.swarm, costs.rows, workload, costs.links)
    found = []
    for at in dict.fromkeys([*range(stages), *(trip.dst for trip in pipeline.trips)]):
        its = [trip for trip in pipeline.trips if trip.dst == at]
        own_ms = float(pipeline.overhead_ms[at]) if at < stages else 0.0
        ms = times.received[:, at] + workload.hop_overhead_ms * len(its) + own_ms
        guessed = any(assumed[trip.src, trip.dst] for trip in its)
        found.append(Term("visits", pipeline.names[at], ms * share, not guessed, count=max(1, len(its))))
    return found


def _of_shares(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> list[Term]:
    shared = TensorParallel(swarm, model, placement, workload)
    step, layer, share = shared.step(), shared.layer, 1 / step_yield(workload)
    slowest = [max(group.members, key=lambda k: layer.ms[k] * group.share[group.members.index(k)])
               for group in shared.groups]  # fmt: skip
    named = " and ".join(shared.names[k] for k in slowest)
    known = all(layer.measured)
    paths = shared.paths
    off = ~np.eye(len(shared.names), dtype=bool)
    sure = bool(np.all((paths.hop_known | ~(paths.estimated | paths.rate_free | paths.rate_bound))[off]))
    software_known = not software_assumed(swarm, shared.rows, workload, paths).any()
    quiet_ms = (step.path_ms["rtt"] + step.path_ms["upload"]) * share
    return [
        Term("layers", named, step.compute_ms * share, known, count=model.layers),
        Term("head", shared.names[slowest[-1]], step.head_ms * share, known),
        Term("path", "all nodes", step.network_ms * share, sure, "each other", max(1, step.hops), quiet_ms),
        Term("visits", "all nodes", step.software_ms * share, software_known, count=max(1, step.hops)),
        Term("drafting", "", np.full(workload.draws, drafting_ms(workload) * share), True),
    ]


def _unmodelled(found: Sequence[Term], workload: Workload) -> tuple[Term, ...]:
    """Return the time that the runs of a calibration left unexplained, which belongs to no known term."""
    if not workload.model_error:
        return ()
    whole = sum(term.typical_ms for term in found)
    off = mirrored_normal(np.random.default_rng(workload.seed), workload.draws) * workload.model_error * whole
    return (Term("unmodelled", "", off, True),)
