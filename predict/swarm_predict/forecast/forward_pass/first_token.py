"""Draw the time to the first token: the prompt through every stage, whole or in chunks, and the first token back.

One sequence on an idle swarm. In a chain chunks overlap: while one is in the second stage the next is in the first, so
that the prompt takes one chunk's way and then the busiest stage or wire once for each further chunk (Agrawal et al.,
SARATHI, arXiv 2308.16369). In a star the client waits for each chunk; nothing overlaps. Every chunk reads the weights
again, so small ones cost. The attention of later chunks to earlier ones is spread evenly over them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from swarm_predict.cost import assumptions as words
from swarm_predict.cost.build import prompt_columns, step_columns
from swarm_predict.cost.engines import TOKEN_BYTES
from swarm_predict.cost.machine.layer_times import LayerColumns, by_hand
from swarm_predict.forecast.assembly import First
from swarm_predict.forecast.draws import FIRST_TOKEN_SHARE, Trip
from swarm_predict.forecast.forward_pass.pipeline import Pipeline, Times
from swarm_protocol.units import BITS_PER_BYTE

WORTH_SAYING_MS: Final = 10.0


def first_token_draws(run: Pipeline) -> First:
    """Draw the time to the first token, with notes about it; the reason alone, if something is not known."""
    work = run.workload
    tokens = work.prompt - work.cached_prompt
    chunk = min(work.prefill_chunk or tokens, tokens)
    chunks, further = math.ceil(tokens / chunk), tokens / chunk - 1  # the last one may be a part of one
    prompt = prompt_columns(run.swarm, run.costs.rows, run.model, work)
    step = run.costs.layer
    if work.batch != 1 or work.draft_tokens:
        step = step_columns(run.swarm, run.costs.rows, run.model, work, 1)
    layer = no_faster_than(run, step, replace(prompt, ms=prompt.ms * chunk / tokens))
    slow = [run.names[k] for k in range(len(run.placement)) if not np.isfinite(layer.ms[k])]
    if slow:
        return First(None, (f"first token not known: no prefill time and no tflops of {words.some(slow)}",))
    trips = run.prompt_trips(1, chunk)
    client = run.costs.client
    if client is not None and not run.engine.client_in_loop and client != 0:
        size = float(TOKEN_BYTES)
        trips = [Trip(client, 0, size * chunk, 0), *trips, Trip(0, client, size, None)]
    deliveries = {size: run.costs.links.delivery_ms(size) for size in {trip.size_bytes for trip in trips}}
    for trip in trips:
        if not np.isfinite(deliveries[trip.size_bytes][trip.src, trip.dst]):
            pair = f"{run.names[trip.src]} → {run.names[trip.dst]}"
            return First(None, (f"first token not known: no path {pair} is measured",))
    draws = max(1, work.draws // FIRST_TOKEN_SHARE)
    counted = not by_hand(run.swarm) or work.slow_start
    one = run.draw(trips, layer, draws, chunk, math.inf if counted else 0.0)  # after a pause between two requests
    restart_ms = _restart_ms(run, trips)
    limit = _limit(run, one, trips)
    if chunks == 1:
        return First(one.total + restart_ms, _said(restart_ms), limit)
    if run.engine.pattern == "star":
        each = one.total
        if run.engine.result != "activation":  # only the last chunk has a result to hand back
            each = each - one.network.ms[:, -1] - work.hop_overhead_ms - one.head
        # the client waits for the paths and the software of a part as of a whole chunk
        alike = one.network.rtt_ms.sum() + one.software
        return First(one.total + further * each + (chunks - 1 - further) * alike + restart_ms, _said(restart_ms), limit)
    overhead = run.overhead_ms + work.proof_ms * chunk * np.array([stage.layers for stage in run.placement])
    stages = np.array([stage + overhead[k] for k, stage in enumerate(one.stages)])
    wires = [*run.wires(trips), *_lossy_ms(run, trips)]
    busiest = np.maximum(stages.max(axis=0), max((ms for _, ms in wires), default=0.0))
    if further * float(busiest.mean()) > float(one.total.mean()):  # most of it is waiting for further chunks
        machines = [(f"the compute of {run.names[k]}", float(ms)) for k, ms in enumerate(stages.mean(axis=1))]
        limit = max([*machines, *wires], key=lambda each: each[1])[0]
    return First(one.total + further * busiest + restart_ms, _said(restart_ms), limit)


def _lossy_ms(run: Pipeline, trips: Sequence[Trip], *, bits: bool = True) -> list[tuple[str, float]]:
    """Return what a chunk keeps each connection whose window losses keep small: the next chunk waits behind it.

    Without `bits` only what it takes longer than those at the path's rate."""
    found = []
    for trip in trips:
        wait_ms = float(run.costs.links.lossy_window_ms(trip.size_bytes)[trip.src, trip.dst])
        if wait_ms > 0:
            rate = float(run.costs.links.rate_mbps[trip.src, trip.dst])
            bits_ms = trip.size_bytes * BITS_PER_BYTE / (rate * 1e3) if bits and np.isfinite(rate) else 0.0
            found.append((f"lost packets from {run.names[trip.src]} to {run.names[trip.dst]}", wait_ms + bits_ms))
    return found


def _limit(run: Pipeline, one: Times, trips: Sequence[Trip]) -> str:
    """Return the largest part of one pass: an uplink by name, a path's losses, round trips, software, or the slowest
    machine."""
    upload = one.network.upload_ms
    stages = [float(stage.mean()) for stage in one.stages]
    parts = {
        "upload": float(upload.sum()),
        "round trips": float(one.network.rtt_ms.sum() + one.network.jitter_ms.sum()),
        "software": float(one.software.mean()),
        "compute": sum(stages) + float(one.head.mean()),
    }
    for name, ms in _lossy_ms(run, trips, bits=False):
        parts[name] = parts.get(name, 0.0) + ms
        parts["round trips"] -= ms
    largest = max(parts, key=lambda part: parts[part])
    if largest == "upload":
        sent: dict[str, float] = {}
        for trip, ms in zip(trips, upload, strict=True):
            sent[run.names[trip.src]] = sent.get(run.names[trip.src], 0.0) + float(ms)
        return f"{max(sent, key=lambda name: sent[name])}'s uplink"
    if largest == "compute":
        return f"the compute of {run.names[int(np.argmax(stages))]}"
    return largest


def _restart_ms(run: Pipeline, trips: Sequence[Trip]) -> float:
    """Return what TCP adds to a prompt after a pause: every window has shrunk to its initial size (RFC 5681 §4.1).

    Measured hops do not show it: they carry one token at decode cadence, which fits the initial window. It is counted
    for measured swarms; hand-written figures are taken as exact unless `slow_start` is set.
    """
    if by_hand(run.swarm) and not run.workload.slow_start:
        return 0.0
    links, limited = run.costs.links, run.costs.links.limited_by_loss
    extra = {size: links.slow_start_ms(size) for size in {trip.size_bytes for trip in trips}}
    # deliveries over paths without a measured hop contain it already if `slow_start` is set
    return sum(
        float(extra[trip.size_bytes][trip.src, trip.dst])
        for trip in trips
        if (links.hop_known[trip.src, trip.dst] or not run.workload.slow_start)
        and not limited[trip.src, trip.dst]  # drawn with the losses
    )


def _said(restart_ms: float) -> tuple[str, ...]:
    if restart_ms < WORTH_SAYING_MS:
        return ()
    return (
        f"first token: {restart_ms:.0f} ms of it is TCP starting slowly after a pause; "
        "net.ipv4.tcp_slow_start_after_idle=0 on every machine saves most of that",
    )


def no_faster_than(run: Pipeline, step: LayerColumns, prefill: LayerColumns) -> LayerColumns:
    """Bound the prefill from below: a chunk reads at least a decode step's weights; the head is computed for one
    token."""
    work = run.workload
    whole = run.model.bytes_touched(work.weights, 1, work.context)
    reading = step.ms * (run.model.weights_touched(work.weights, 1) / whole)
    floor = np.where(np.isfinite(reading), reading, 0.0)
    return replace(prefill, ms=np.maximum(prefill.ms, floor), head_ms=step.head_ms)
