"""Turn the draws of one window's pass through a pipeline into the stations that windows in flight queue at.

Stations in order: the client's uplink, then of each stage its machine and its uplink, and the client's own work at the
end. A message keeps the sender's uplink for as long as its bytes take; the rest of its way it shares with nobody.
The drafter is the client, or the first stage's machine where no client is named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.cost.speculative import drafting_ms, outcomes, step_width
from swarm_predict.forecast.assembly import InFlight, Step
from swarm_predict.forecast.forward_pass.pipeline import Pipeline, Times
from swarm_predict.forecast.windows import WINDOWS, Part, Route, flow, outcome_sequence, slowest, worth
from swarm_protocol.snapshot.swarm import Floats

MAX_DRAWS: Final = 250  # runs of some hundred windows each


def with_windows(pipeline: Pipeline, times: Times, step: Step) -> Step:
    """Return the step with the time per token of a stream that has the workload's windows in flight."""
    work, chances = pipeline.workload, outcomes(pipeline.workload)
    sequence = outcome_sequence(chances, WINDOWS, work.seed)
    split = _split(pipeline, times, slice(0, MAX_DRAWS))
    parts = {name: _one(route) for name, route in split.items()}
    whole = _total(split, pipeline)
    found = flow(whole, sequence, work.windows)
    name, ms = slowest(whole, _names(pipeline))
    lost = 1 - 1 / (chances.tokens_a_window * float(found.windows_per_token.mean()))
    note = (
        f"{work.windows} windows in flight: {max(lost, 0.0):.0%} of them are discarded after a rejection; however "
        f"many there are, one stream is limited by {name}, {ms:.1f} ms a window"
    )
    shares = worth(parts, _one(whole), sequence, work.windows)
    return replace(step, in_flight=InFlight(found, shares), notes=(*step.notes, note))


@dataclass(slots=True)
class _Stations:
    """Rows of a route in the making, (draws,) each."""

    service: list[Floats]
    delay: list[Floats]


def _names(pipeline: Pipeline) -> list[str]:
    """Return the names of the stations, in order."""
    names = []
    if pipeline.costs.tables.client is not None:
        names.append(f"the uplink of {pipeline.names[pipeline.costs.tables.client]}")
    for stage in pipeline.placement:
        names += [stage.node, f"the uplink of {stage.node}"]
    return [*names, "the client"]


def _split(pipeline: Pipeline, times: Times, draws: slice) -> dict[Part, Route]:
    """Return one route for each part of a window's time; they add up to the whole."""
    work, count = pipeline.workload, len(times.total[draws])
    client = pipeline.costs.tables.client
    begin = 0 if client is None else 1
    stations = begin + 2 * len(pipeline.placement) + 1
    zeros = np.zeros(count)
    parts: dict[Part, _Stations] = {
        name: _Stations([zeros] * stations, [zeros] * stations)
        for name in ("draft", "compute", "head", "software", "rtt", "jitter", "upload")
    }
    machine = [begin + 2 * k for k in range(len(pipeline.placement))]
    own = [float(ms) for ms in pipeline.overhead_ms]
    proofs = [work.proof_ms * step_width(work) * float(layers) for layers in pipeline.layers]
    each_message = (times.software[draws] - sum(own) - sum(proofs) - work.client_ms) / max(1, len(pipeline.trips))
    for k, stage in enumerate(times.stages):
        parts["compute"].service[machine[k]] = stage[draws]
        parts["software"].service[machine[k]] = np.full(count, own[k] + proofs[k])
    at_head = machine[-1] if pipeline.engine.head == "last" else stations - 1
    parts["head"].service[at_head] = times.head[draws]
    parts["software"].service[-1] = np.full(count, work.client_ms)
    for number, trip in enumerate(pipeline.trips):
        uplink = 0 if trip.stage == 0 else machine[trip.src] + 1  # only the client sends to the first stage
        ms = times.network.ms[draws, number]
        upload = np.minimum(float(times.network.upload_ms[number]), ms)
        rtt = np.minimum(float(times.network.rtt_ms[number]), ms - upload)
        parts["upload"].service[uplink] = upload
        parts["rtt"].delay[uplink] = rtt
        parts["jitter"].delay[uplink] = ms - upload - rtt
        arrives = machine[trip.dst] if trip.dst < len(machine) and trip.stage is not None else stations - 1
        parts["software"].service[arrives] = parts["software"].service[arrives] + each_message
    draft = np.full(count, drafting_ms(work))
    return {
        name: Route(draft if name == "draft" else zeros, np.array(found.service), np.array(found.delay))
        for name, found in parts.items()
    }


def _total(split: dict[Part, Route], pipeline: Pipeline) -> Route:
    client = pipeline.costs.tables.client
    return Route(
        np.asarray(sum(part.draft_ms for part in split.values())),
        np.asarray(sum(part.service_ms for part in split.values())),
        np.asarray(sum(part.delay_ms for part in split.values())),
        drafter=0 if client is None else 1 if client == 0 else None,
    )


def _one(route: Route) -> Route:
    """Return the medians, as one variant."""
    return Route(
        np.median(route.draft_ms, keepdims=True),
        np.median(route.service_ms, axis=1, keepdims=True),
        np.median(route.delay_ms, axis=1, keepdims=True),
        route.drafter,
    )
