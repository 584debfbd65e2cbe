"""Remarks on one predicted placement, below those on the tables it was made of (`assumptions`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarm_predict.cost import assumptions as words
from swarm_predict.cost.network import INITIAL_WINDOW_BYTES
from swarm_predict.cost.tcp_loss import RTO_MIN_MS
from swarm_predict.forecast.speculative import step_yield
from swarm_protocol.snapshot.swarm import State
from swarm_protocol.units import BYTES_PER_GIB

if TYPE_CHECKING:
    from swarm_predict.forecast.prediction import Run

SLOW_START_WORTH_SAYING: Final = 0.02  # of the time per token
_SAID: Final = {State.STALE: "has old numbers (stale)", State.LOST: "is lost", State.LEFT: "has left"}


def remarks(run: Run, memory: list[float], mean_ms: float) -> list[str]:
    return [
        *words.notes(run.swarm, run.costs, run.model, run.workload),
        *_states(run),
        *_taken(run, memory),
        *_slow_start(run, mean_ms),
        *_offloaded(run),
        *_of_options(run),
    ]


def _states(run: Run) -> list[str]:
    state = run.swarm.nodes["state"]
    return [
        f"{run.names[k]} {_SAID[State(int(state[row]))]}"
        for k, row in enumerate(run.costs.rows)
        if int(state[row]) in _SAID
    ]


def _taken(run: Run, memory: list[float]) -> list[str]:
    """Memory that something else holds just now, where the stage would fit without it."""
    free = run.swarm.nodes["vram_free_bytes"][list(run.costs.rows)]
    return [
        f"{stage.node} has {free[k] / BYTES_PER_GIB:.1f} GiB free at the moment, this stage takes "
        f"{memory[k] / BYTES_PER_GIB:.1f}"
        for k, stage in enumerate(run.placement)
        if free[k] < memory[k] <= run.room_bytes[k]
    ]


def _slow_start(run: Run, mean_ms: float) -> list[str]:
    """TCP's restart after idle: counted where paths were measured, said where a person wrote them."""
    if run.workload.slow_start or not run.trips:
        return []
    step_ms = mean_ms * step_yield(run.workload)
    large = [trip for trip in run.trips if trip.size_bytes > INITIAL_WINDOW_BYTES]
    if not large:
        return []
    kilobytes = max(trip.size_bytes for trip in large) / 1e3
    save = (
        "net.ipv4.tcp_slow_start_after_idle=0, or messages that fit 14.6 KB (--activations int8 halves them), save it"
    )
    counted = float(run.restarts_ms(step_ms).sum())
    if counted >= SLOW_START_WORTH_SAYING * step_ms:
        return [f"{counted:.0f} ms a token: {kilobytes:.1f} KB is more than TCP sends at once after idle; {save}"]
    paths, extra = run.costs.links, 0.0
    more = {size: paths.slow_start_ms(size) for size in {trip.size_bytes for trip in large}}
    for trip in large:
        at = (trip.src, trip.dst)
        if run.at_ns is None and step_ms > float(paths.rtt_p50_ms[at]) + RTO_MIN_MS and not paths.hop_known[at]:
            extra += float(more[trip.size_bytes][at])
    if extra < SLOW_START_WORTH_SAYING * step_ms:
        return []
    return [
        f"{kilobytes:.1f} KB is more than TCP sends at once after idle: up to {extra:.0f} ms a token more, "
        "unless net.ipv4.tcp_slow_start_after_idle=0 or the message fits 14.6 KB (--activations int8 halves it)"
    ]


def _offloaded(run: Run) -> list[str]:
    ram = run.swarm.nodes["ram_free_bytes"][list(run.costs.rows)]
    lines = []
    for k, (stage, kept) in enumerate(zip(run.placement, run.spills, strict=True)):
        if kept is None or not kept.layers:
            continue
        lines.append(
            f"{stage.node} keeps {stage.layers - kept.layers} of {stage.layers} layers and reads "
            f"{kept.size_bytes / BYTES_PER_GIB:.1f} GiB anew for every step, at {run.workload.offload_gbps:g} GB/s"
        )
        if ram[k] < kept.size_bytes:
            lines.append(f"{stage.node} has {ram[k] / BYTES_PER_GIB:.1f} GiB of RAM free: these weights lie on disk")
    return lines


def _of_options(run: Run) -> list[str]:
    work, lines = run.workload, []
    if work.draft_tokens:
        lines.append(
            f"{work.draft_tokens} guesses a step, each right with chance {work.draft_accept:g}: "
            f"{step_yield(work):.2f} tokens a step; quantiles are of steps, shared evenly by their tokens"
        )
    if work.model_error:
        lines.append(
            f"calibrated: what the observed runs leave unexplained ({work.model_error:.1%}) widens the interval"
        )
    if work.redundancy > 1:
        lines.append(f"the {work.redundancy} copies of each stage are taken to be on machines and paths like its own")
    if work.prefill_chunk and work.prefill_chunk < work.prompt and run.engine.pattern == "star":
        lines.append(f"{run.engine.name}: chunks of the prompt do not overlap, the client waits for each")
    return lines
