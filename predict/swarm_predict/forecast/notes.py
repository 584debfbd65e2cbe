"""Notes under a predicted placement, beside those on what its inputs assume (`assumptions`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarm_predict.cost import assumptions
from swarm_predict.cost.inputs import Inputs
from swarm_predict.cost.network import INITIAL_WINDOW_BYTES, Links
from swarm_predict.cost.speculative import step_yield
from swarm_predict.cost.tcp_loss import RTO_MIN_MS
from swarm_predict.forecast.draws import Trip
from swarm_predict.forecast.offload import Spill
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Placement, StageCost, Workload
from swarm_protocol.snapshot.swarm import State, Swarm
from swarm_protocol.units import BYTES_PER_GIB

SLOW_START_WORTH_SAYING: Final = 0.02  # of the time per token
_STATE_NOTES: Final = {State.STALE: "has old numbers (stale)", State.LOST: "is lost", State.LEFT: "has left"}


def of_nodes(
    swarm: Swarm,
    model: ModelShape,
    placement: Placement,
    workload: Workload,
    inputs: Inputs,
    stages: Sequence[StageCost],
) -> list[str]:
    """Return what was assumed, which nodes are not there, and where memory is taken."""
    return [
        *assumptions.notes(swarm, inputs, model, workload),
        *_states(swarm, inputs),
        *_memory_taken(swarm, inputs, stages),
    ]


def of_options(workload: Workload) -> list[str]:
    """Return what the workload's options assume."""
    lines = []
    if workload.draft_tokens:
        lines.append(
            f"{workload.draft_tokens} guesses a step, each right with chance {workload.draft_accept:g}: "
            f"{step_yield(workload):.2f} tokens a step; quantiles are of steps, shared evenly by their tokens"
        )
    if workload.model_error:
        lines.append(
            f"calibrated: what the observed runs leave unexplained ({workload.model_error:.1%}) widens the interval"
        )
    if workload.redundancy > 1:
        lines.append(
            f"the {workload.redundancy} copies of each stage are assumed to have machines and paths like the first"
        )
    return lines


def _states(swarm: Swarm, inputs: Inputs) -> list[str]:
    state = swarm.nodes["state"]
    return [
        f"{inputs.names[k]} {_STATE_NOTES[State(int(state[row]))]}"
        for k, row in enumerate(inputs.rows)
        if int(state[row]) in _STATE_NOTES
    ]


def _memory_taken(swarm: Swarm, inputs: Inputs, stages: Sequence[StageCost]) -> list[str]:
    """Memory that something else holds just now, where the stage would fit without it."""
    free = swarm.nodes["vram_free_bytes"][list(inputs.rows)]
    return [
        f"{stage.node} has {free[k] / BYTES_PER_GIB:.1f} GiB free at the moment, this stage takes "
        f"{stage.memory_bytes / BYTES_PER_GIB:.1f}"
        for k, stage in enumerate(stages)
        if free[k] < stage.memory_bytes <= inputs.vram_bytes[k]
    ]


@dataclass(frozen=True, slots=True)
class Restarts:
    """TCP's restarts after idle in one step."""

    trips: Sequence[Trip]
    links: Links
    counted_ms: float  # in the prediction already


def slow_start(restarts: Restarts, step_ms: float, *, written: bool) -> list[str]:
    """Say what TCP's restart after idle costs: it is counted for measured paths, and not for `written` ones."""
    large = [trip for trip in restarts.trips if trip.size_bytes > INITIAL_WINDOW_BYTES]
    if not large:
        return []
    kilobytes = max(trip.size_bytes for trip in large) / 1e3
    save = (
        "net.ipv4.tcp_slow_start_after_idle=0, or messages that fit 14.6 KB (--activations int8 halves them), save it"
    )
    if restarts.counted_ms >= SLOW_START_WORTH_SAYING * step_ms:
        return [
            f"{restarts.counted_ms:.0f} ms a token: {kilobytes:.1f} KB is more than TCP sends at once after idle; "
            + save
        ]
    links, extra = restarts.links, 0.0
    more = {size: links.slow_start_ms(size) for size in {trip.size_bytes for trip in large}}
    for trip in large:
        at = (trip.src, trip.dst)
        if written and step_ms > float(links.rtt_p50_ms[at]) + RTO_MIN_MS and not links.hop_known[at]:
            extra += float(more[trip.size_bytes][at])
    if extra < SLOW_START_WORTH_SAYING * step_ms:
        return []
    return [
        f"{kilobytes:.1f} KB is more than TCP sends at once after idle: up to {extra:.0f} ms a token more, "
        "unless net.ipv4.tcp_slow_start_after_idle=0 or the message fits 14.6 KB (--activations int8 halves it)"
    ]


def offloaded(
    swarm: Swarm, placement: Placement, rows: Sequence[int], spills: Sequence[Spill | None], rate_gbps: float
) -> list[str]:
    """Say which stages read weights anew in every step, and whether RAM holds them."""
    ram = swarm.nodes["ram_free_bytes"][list(rows)]
    lines = []
    for k, (stage, kept) in enumerate(zip(placement, spills, strict=True)):
        if kept is None or not kept.layers:
            continue
        lines.append(
            f"{stage.node} keeps {stage.layers - kept.layers} of {stage.layers} layers and reads "
            f"{kept.size_bytes / BYTES_PER_GIB:.1f} GiB again in every step, at {rate_gbps:g} GB/s"
        )
        if ram[k] < kept.size_bytes:
            lines.append(f"{stage.node} has {ram[k] / BYTES_PER_GIB:.1f} GiB of RAM free: the rest is read from disk")
    return lines
