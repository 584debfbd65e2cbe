"""Write the notes of a predicted placement, in addition to those on assumed inputs (`assumptions`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.cost import assumptions
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.inputs import Inputs
from swarm_predict.cost.network.delivery_times import Links
from swarm_predict.cost.network.window_after_idle import INITIAL_WINDOW_BYTES
from swarm_predict.cost.speculative import accepts, step_yield
from swarm_predict.forecast.draws import Trip
from swarm_predict.forecast.offload import Spill
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.posterior import chosen
from swarm_predict.types import Placement, StageCost, Workload
from swarm_protocol.snapshot.swarm import Floats, State, Swarm
from swarm_protocol.units import BYTES_PER_GIB

SLOW_START_WORTH_SAYING: Final = 0.02  # of the time per token
MAX_NAMED: Final = 3
_STATE_NOTES: Final = {State.STALE: "has stale figures", State.LOST: "is lost", State.LEFT: "has left"}


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
        chances = " ".join(f"{chance:g}" for chance in dict.fromkeys(accepts(workload)))
        tree = ""
        if workload.tree_branches > 1:
            tree = (
                f", {workload.tree_branches} alternatives at each position, each further one accepted with probability "
                f"{workload.tree_accept:g}"
            )
        lines.append(
            f"{workload.draft_tokens} draft tokens a step, each accepted with probability {chances}{tree}: "
            f"{step_yield(workload):.2f} tokens a step; quantiles are those of a step, divided evenly among its tokens"
        )
    if workload.model_error:
        lines.append(
            f"calibrated: what the observed runs leave unexplained ({workload.model_error:.1%}) widens the interval"
        )
    if learnt := chosen(workload.priors).learnt:
        lines.append(
            f"calibrated with {_counted(learnt)}: what machines, models and engines share with "
            f"{'them' if len(learnt) > 1 else 'it'} is narrowed, the rest is from published results"
        )
    if engine_facts(workload).rdma:
        lines.append("RDMA bypasses both kernels: round trips measured by probes are upper bounds for it")
    if workload.redundancy > 1:
        lines.append(
            f"the {workload.redundancy} copies of each stage are assumed to have machines and paths like the first"
        )
    return lines


def _counted(learnt: Sequence[str]) -> str:
    """`2 runs of llama-3.1-70b q4_k_m (llama.cpp)`."""
    kinds = list(dict.fromkeys(learnt))
    named = ", ".join(kinds[:MAX_NAMED]) + (f" and {len(kinds) - MAX_NAMED} more" if len(kinds) > MAX_NAMED else "")
    return f"{len(learnt)} run{'s' if len(learnt) > 1 else ''} of {named}"


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
    names: Sequence[str]  # of the rows of `links`
    counted_ms: Floats  # of each trip, in the prediction already


def slow_start(restarts: Restarts, step_ms: float, *, written: bool) -> list[str]:
    """Say what TCP's restart after idle costs: it is counted for measured paths, and not for `written` ones."""
    large = [trip for trip in restarts.trips if trip.size_bytes > INITIAL_WINDOW_BYTES]
    if not large:
        return []
    kilobytes = max(trip.size_bytes for trip in large) / 1e3
    counted_ms = float(np.sum(restarts.counted_ms))
    if counted_ms >= SLOW_START_WORTH_SAYING * step_ms:
        waits = zip(restarts.trips, restarts.counted_ms, strict=True)
        senders = dict.fromkeys(restarts.names[trip.src] for trip, ms in waits if ms > 0)
        return [
            f"{counted_ms:.0f} ms a token: {kilobytes:.1f} KB is more than TCP sends at once after idle; "
            f"net.ipv4.tcp_slow_start_after_idle=0 on {assumptions.some(senders)}, or messages that fit 14.5 KB "
            "(--activations int8 halves them), save it"
        ]
    if not written:
        return []
    links = restarts.links
    src, dst = np.array([trip.src for trip in large]), np.array([trip.dst for trip in large])
    sizes = np.array([trip.size_bytes for trip in large])
    waits_ms = links.restart_ms(src, dst, sizes, np.full(len(large), step_ms), slow_start=False)
    extra = float(waits_ms[~links.hop_known[src, dst]].sum())
    if extra < SLOW_START_WORTH_SAYING * step_ms:
        return []
    return [
        f"{kilobytes:.1f} KB is more than TCP sends at once after idle: up to {extra:.0f} ms a token more, "
        "unless net.ipv4.tcp_slow_start_after_idle=0 or the message fits 14.5 KB (--activations int8 halves it)"
    ]


def lossy_windows(restarts: Restarts, step_ms: float) -> list[str]:
    """Say what windows cost that losses keep small, and what avoids it."""
    links = restarts.links
    waits: dict[tuple[int, int], float] = {}
    for trip in restarts.trips:
        at = trip.src, trip.dst
        if not links.limited_by_loss[at]:
            continue
        waits[at] = waits.get(at, 0.0) + float(links.lossy_window_ms(trip.size_bytes)[at])
    if sum(waits.values()) < SLOW_START_WORTH_SAYING * step_ms:
        return []
    names, (src, dst) = restarts.names, max(waits, key=lambda at: waits[at])
    senders = assumptions.some(dict.fromkeys(names[at[0]] for at, ms in waits.items() if ms > 0))
    guessed = assumptions.some(
        dict.fromkeys(names[at[0]] for at, ms in waits.items() if ms > 0 and links.assumed_cubic[at[0]])
    )
    as_cubic = f"; the congestion control of {guessed} is assumed to be cubic, which is every system's default"
    return [
        f"about {sum(waits.values()):.0f} ms a token: lost packets ({links.loss[src, dst]:.2%} of round trips "
        f"{names[src]} → {names[dst]}) keep TCP's window below the message; "
        f"smaller messages (--activations int8) wait less, and BBR on {senders} paces instead, about one round "
        f"trip a message{as_cubic if guessed else ''}"
    ]


def offloaded(
    swarm: Swarm, placement: Placement, rows: Sequence[int], spills: Sequence[Spill | None], rate_gbps: float
) -> list[str]:
    """Say which stages read weights again in every step, and whether RAM holds them."""
    ram = swarm.nodes["ram_free_bytes"][list(rows)]
    lines = []
    for k, (stage, kept) in enumerate(zip(placement, spills, strict=True)):
        if kept is None or not kept.size_bytes:
            continue
        lines.append(
            f"{stage.node} keeps {stage.layers - kept.layers} of {stage.layers} layers and reads "
            f"{kept.size_bytes / BYTES_PER_GIB:.1f} GiB again in every step, at {rate_gbps:g} GB/s"
        )
        if ram[k] < kept.size_bytes:
            lines.append(f"{stage.node} has {ram[k] / BYTES_PER_GIB:.1f} GiB of RAM free: the rest is read from disk")
    return lines
