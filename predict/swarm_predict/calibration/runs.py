"""Divide an observed run into the parts of its time, which a calibration file keeps and which the priors are
conditioned on.

Parts are taken from the tables and groups of the prediction, so an effect means the same in both. The file names
machines, models and engines, not effects: effects are derived when it is read, and a new fit of the priors does not
make old files wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from swarm_predict.cost.all_reduce import software_rounds
from swarm_predict.cost.build import build_costs
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.machine.cards import with_one_size
from swarm_predict.cost.machine.layer_times import LayerColumns, by_hand
from swarm_predict.cost.machine_groups import ALL_REDUCES_PER_LAYER
from swarm_predict.cost.network.delivery_times import Links, Mask
from swarm_predict.cost.software_overhead import software_assumed, visits_ms
from swarm_predict.cost.speculative import drafting_ms, step_width, step_yield
from swarm_predict.forecast import path_uncertainty
from swarm_predict.forecast.forward_pass.pipeline import Pipeline
from swarm_predict.forecast.forward_pass.tensor_parallel import TensorParallel
from swarm_predict.forecast.path_uncertainty import Doubt
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors import individual_effects
from swarm_predict.priors.assumed_figures import own_effects
from swarm_predict.priors.conditioning import Observation, Part
from swarm_predict.priors.factors import (
    FASTEST,
    RDMA,
    RDMA_SHARE,
    Kind,
    Load,
    Machine,
    WeightGroup,
    effects,
    key_of,
    launch_rounds,
    load_of,
    machine_of,
    over_rdma,
)
from swarm_predict.priors.individual_effects import PATH_KINDS, PathKind
from swarm_predict.priors.posterior import Priors
from swarm_predict.types import Placement, PredictError, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm

POSSIBLE: Final = 0.9  # of the least time by data sheets and paths: a faster run was not measured as described

ALIKE: Final = 0.9  # of the slowest member's time

Number = Annotated[float, Meta(ge=0, le=1e12)]
What = Literal["decode", "launch", "visit", "reduce", "layers", "paths"]


class RunMachine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str  # of `key_of`
    device_class: str
    device: str
    cards: int = 1  # of it, that split each layer


class RunPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    what: What
    times: Number  # milliseconds by the data sheet or as measured; of launch, visit and reduce: how many
    machine: int  # position among the run's
    path: PathKind = "far"  # of paths: their kind


class ObservedRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of one placement."""

    label: str
    engine: str
    model: str
    weights: str
    group: WeightGroup
    routed: bool
    written: bool  # the swarm was written by hand
    observed_ms: Annotated[float, Meta(gt=0, le=1e12)]  # of a step
    fixed_ms: Number
    machines: tuple[RunMachine, ...]
    parts: tuple[RunPart, ...]
    # equally likely delays by what is not known of its own network (`path_uncertainty`); empty: all is known
    own_ms: tuple[Annotated[float, Meta(ge=-1e12, le=1e12)], ...] = ()

    @property
    def load(self) -> Load:
        return Load(self.engine, self.group, self.routed, self.model, self.weights)

    @property
    def same_as(self) -> tuple[object, ...]:
        """Return whether two runs have the same placement and workload."""
        return (self.engine, self.model, self.weights, round(self.fixed_ms, 3), self.machines, self.parts)


@dataclass(frozen=True, slots=True)
class Refused:
    label: str
    why: str


def observe(
    label: str, tokens_per_s: float, swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload
) -> ObservedRun | Refused:
    """Return the run as parts; refuse it if it is faster than memory, paths and rates allow.

    `workload` has no calibration. Raises PredictError for what cannot be predicted, or for an invalid speed.
    """
    if not 0 < tokens_per_s < math.inf:
        raise PredictError(f"run {label}: {tokens_per_s} tokens/s is not a valid speed; give the speed of one stream")
    if workload.windows > 1:
        raise PredictError(
            f"run {label}: with several windows in flight a token is not one step; measure with one window"
        )
    observed_ms = 1e3 / tokens_per_s * step_yield(workload)
    workload = with_one_size(swarm, model, placement, workload)
    shared = engine_facts(workload).pattern == "all-reduce"
    found = _of_groups(swarm, model, placement, workload) if shared else _of_stages(swarm, model, placement, workload)
    if observed_ms < POSSIBLE * found.least_ms:
        return Refused(
            label,
            f"a token in {observed_ms:.3g} ms is impossible: reading {model.name} ({workload.weights}) at the memory "
            f"bandwidth of these machines takes {found.reading_ms:.3g} ms"
            + (f" and its paths {found.paths_ms:.3g} ms" if found.paths_ms else "")
            + "; another model, format, placement, number of streams or speculation was measured",
        )
    load = load_of(model, workload.weights, workload.engine)
    machines = [machine_of(swarm.facts[row]) for row in found.rows]
    parts = found.parts
    if workload.engine not in RDMA and over_rdma(workload.engine, swarm, found.rows):
        parts = [
            msgspec.structs.replace(part, times=RDMA_SHARE * part.times) if part.what in ("visit", "reduce") else part
            for part in parts
        ]
    return ObservedRun(
        label=label,
        engine=workload.engine,
        model=model.name,
        weights=workload.weights,
        group=load.weights,
        routed=load.routed,
        written=by_hand(swarm),
        observed_ms=observed_ms,
        fixed_ms=found.fixed_ms + drafting_ms(workload),
        machines=tuple(
            RunMachine(key_of(swarm.facts[row]), machine.device_class, machine.device, cards)
            for row, machine, cards in zip(found.rows, machines, found.cards, strict=True)
        ),
        parts=tuple(part for part in parts if part.times > 0),
        own_ms=found.own_ms,
    )


def observation(run: ObservedRun, priors: Priors) -> Observation:
    """Return the run as effects of these priors. Raises PredictError for parts without a machine."""
    load, several = run.load, len(run.machines) > 1
    parts = []
    for part in run.parts:
        if not 0 <= part.machine < len(run.machines):
            raise PredictError(f"run {run.label}: a part names machine {part.machine} of {len(run.machines)}")
        named = run.machines[part.machine]
        own, host = own_effects("decode", named.key, named.device_class, load, several=several)
        if part.what == "layers":
            parts.append(Part(part.times, individual_effects.layers(load, named.device_class, written=run.written)))
        elif part.what == "paths":
            parts.append(Part(part.times, individual_effects.paths(load, part.path, written=run.written)))
        else:
            kind: Kind = part.what
            shared = effects(kind, Machine(named.device_class, named.device, cards=named.cards), load)
            if kind == "decode":
                parts.append(Part(FASTEST * part.times, own))
            times = part.times * (RDMA_SHARE if run.engine in RDMA and kind in ("visit", "reduce") else 1.0)
            parts.append(Part(times, (*shared, *(own if kind in ("decode", "launch") else host))))
    return Observation(run.observed_ms, tuple(parts), run.fixed_ms, _noise(run, priors), run.own_ms)


def _noise(run: ObservedRun, priors: Priors) -> float:
    """Return how far repeated runs differ: of measured machines and paths, in proportion of them."""
    usual = individual_effects.run_noise("decode", priors.left)
    known = [part.times for part in run.parts if part.what in ("layers", "paths")]
    if run.written or not known:
        return usual
    share = min(1.0, sum(known) / run.observed_ms)
    paths = min(1.0, sum(part.times for part in run.parts if part.what == "paths") / run.observed_ms)
    measured = math.hypot(
        share * individual_effects.measured_noise(run.load), (1 - paths) * individual_effects.pace_noise(run.load)
    )
    return math.hypot(measured, (1 - share) * usual)


# ---------------------------------------------------------------- parts of a placement


@dataclass(frozen=True, slots=True)
class _Parts:
    rows: tuple[int, ...]  # of the swarm, one a machine
    parts: list[RunPart]
    fixed_ms: float
    reading_ms: float  # least time by the data sheets
    paths_ms: float  # least time by idle paths and rates
    own_ms: Doubt
    cards: tuple[int, ...]  # of each machine, that split each layer

    @property
    def least_ms(self) -> float:
        return self.reading_ms + self.paths_ms


def _of_stages(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> _Parts:
    placement = tuple(sorted(placement, key=lambda stage: stage.first))
    costs = build_costs(swarm, model, workload, [swarm.index(stage.node) for stage in placement])
    run = Pipeline(swarm, model, placement, workload, costs)
    run.require_known()
    layer, engine = costs.layer, costs.engine
    home = len(placement) - 1 if engine.head == "last" else costs.tables.client or 0
    counts = [float(stage.layers) for stage in placement] + [0.0] * (len(costs.rows) - len(placement))
    visits = visits_ms(swarm, costs.rows)
    head_ms = float(layer.head_ms[home]) - (0.0 if engine.head == "last" else float(visits[home]))
    parts, reading_ms, fixed_ms = [], 0.0, float(layer.head_ms[home]) - head_ms
    for k, count in enumerate(counts):
        head = head_ms if k == home and math.isfinite(head_ms) else 0.0
        more, sheet_ms = _compute(layer, k, count, 1.0, head)
        parts += more
        reading_ms += sheet_ms
    idle_ms = 0.0
    kinds = costs.links.kinds
    paths_ms = np.zeros(len(PATH_KINDS))
    expected_ms = costs.tables.price(list(range(len(placement))), [stage.layers for stage in placement])
    for trip, restart_ms in zip(run.trips, run.restarts_ms(expected_ms), strict=True):
        at = (trip.src, trip.dst)
        delivery_ms = float(costs.links.usual_delivery_ms(trip.size_bytes, workload.slow_start)[at])
        paths_ms[kinds[at]] += delivery_ms + float(restart_ms)
        idle_ms += _idle_ms(costs.links, trip.src, trip.dst, trip.size_bytes)
        if run.assumed[at]:
            parts.append(RunPart("visit", 1.0, trip.dst))
    parts += _of_paths(paths_ms)
    fixed_ms += run.fixed_ms(step_width(workload)) + workload.hop_overhead_ms * len(run.trips)
    return _Parts(
        costs.rows, parts, fixed_ms if math.isfinite(fixed_ms) else 0.0, reading_ms, idle_ms,
        path_uncertainty.of_stages(run), layer.cards,
    )  # fmt: skip


def _of_groups(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> _Parts:
    """Return the parts of groups: all wait for the slowest share, and a round of an all-reduce for its slowest
    member."""
    run = TensorParallel(swarm, model, placement, workload)
    run.require_known()
    layer = run.layer
    assumed: Mask = np.any(software_assumed(swarm, run.rows, workload, run.paths), axis=0)
    parts, reading_ms = [], 0.0
    paths_ms = np.zeros(len(PATH_KINDS))
    for number, group in enumerate(run.groups):
        members, each_ms = list(group.members), run.share_ms(group, layer)
        ends = number == len(run.groups) - 1
        reduces = ALL_REDUCES_PER_LAYER * group.layers
        rounds = float(reduces * software_rounds(run.all_reduce, len(members)))
        paths_ms += reduces * run.rounds_ms(group)
        sheets = []
        for position, part in _slowest(each_ms):
            k, share = members[position], float(group.share[position])
            head = float(layer.head_ms[k]) * share if ends else 0.0
            more, sheet_ms = _compute(layer, k, float(group.layers), share, head)
            parts += [RunPart(one.what, one.times * part, k) for one in more]
            sheets.append(sheet_ms)
        reading_ms += max(sheets)
        reduce_ms = np.where(assumed, layer.assumed.reduce_ms, 0.0)[members]
        parts += [RunPart("reduce", rounds * part, members[at]) for at, part in _slowest(reduce_ms) if reduce_ms[at]]
    for trips in run.single_trips(run.width):
        paths_ms += run.slowest_ms(trips)
    parts += _of_paths(paths_ms)
    # half a round trip is not always one way, so only this is certain of many rounds
    idle_ms = POSSIBLE * float(paths_ms.sum())
    fixed_ms = run.software_ms(0, run.width)
    return _Parts(tuple(run.rows), parts, fixed_ms, reading_ms, idle_ms, path_uncertainty.of_groups(run), layer.cards)


def _of_paths(paths_ms: Floats) -> list[RunPart]:
    """Return the parts of paths, of each kind of them."""
    return [RunPart("paths", float(ms), 0, kind) for ms, kind in zip(paths_ms, PATH_KINDS, strict=True) if ms > 0]


def _slowest(each_ms: Floats) -> list[tuple[int, float]]:
    """Return (position, share) of the members that are about as slow as the slowest: the others may wait for any of
    them, so the run gives evidence about each."""
    near = np.flatnonzero(each_ms >= ALIKE * each_ms.max())
    return [(int(k), 1.0 / len(near)) for k in near]


def _compute(layer: LayerColumns, k: int, count: float, share: float, head_ms: float) -> tuple[list[RunPart], float]:
    """Return the parts of `count` layers and of the head on machine k, and what its data sheet allows at best."""
    reading_ms = float(layer.reading_ms[k])
    sheet_ms = count * share * reading_ms if math.isfinite(reading_ms) else 0.0
    if layer.measured[k]:
        as_timed_ms = (count * share * float(layer.ms[k]) + head_ms) / float(layer.assumed.layers[k])
        return [RunPart("layers", as_timed_ms, k)], sheet_ms
    reading = sheet_ms + head_ms / float(layer.assumed.rate[k])
    return [RunPart("decode", reading, k), RunPart("launch", count * launch_rounds(layer.cards[k]), k)], reading


def _idle_ms(paths: Links, src: int, dst: int, size_bytes: float) -> float:
    """Return the least time of a message over an idle path at its rate."""
    oneway = float(paths.oneway_min_ms[src, dst])
    serial = float(paths.serialisation_ms(size_bytes)[src, dst])
    return (oneway if math.isfinite(oneway) else 0.0) + (serial if math.isfinite(serial) else 0.0)
