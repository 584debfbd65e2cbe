"""Time to the first token: the prompt through every stage, in one piece or in chunks, and the first token back.

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
from swarm_predict.cost.build import step_columns
from swarm_predict.cost.engines import TOKEN_BYTES
from swarm_predict.cost.layer_times import LayerColumns, by_hand, layer_columns
from swarm_predict.forecast.draws import FIRST_TOKEN_SHARE, Trip
from swarm_predict.forecast.pipeline import Pipeline
from swarm_protocol.snapshot.swarm import Floats

WORTH_SAYING_MS: Final = 10.0


def first_token_draws(run: Pipeline) -> tuple[Floats | None, list[str]]:
    """Draw the time to the first token, with notes about it; None, and the reason, if something is not known."""
    work = run.workload
    chunk = min(work.prefill_chunk or work.prompt, work.prompt)
    chunks = math.ceil(work.prompt / chunk)
    prompt = layer_columns(
        run.swarm, run.costs.rows, run.model, work.weights, "prefill", 1, work.prompt,
        engine=work.engine, priors=work.priors,
    )  # fmt: skip
    step = run.costs.layer
    if work.batch != 1 or work.draft_tokens:
        step = step_columns(run.swarm, run.costs.rows, run.model, work, 1)
    layer = _no_faster_than(run, step, replace(prompt, ms=prompt.ms / chunks))
    slow = [run.names[k] for k in range(len(run.placement)) if not np.isfinite(layer.ms[k])]
    if slow:
        return None, [f"first token not known: no prefill time and no tflops of {words.some(slow)}"]
    trips = run.trips_for(1, chunk)
    client = run.costs.client
    if client is not None and not run.engine.client_in_loop and client != 0:
        size = float(TOKEN_BYTES)
        trips = [Trip(client, 0, size * chunk, 0), *trips, Trip(0, client, size, None)]
    deliveries = {size: run.costs.links.delivery_ms(size) for size in {trip.size_bytes for trip in trips}}
    for trip in trips:
        if not np.isfinite(deliveries[trip.size_bytes][trip.src, trip.dst]):
            pair = f"{run.names[trip.src]} → {run.names[trip.dst]}"
            return None, [f"first token not known: no path {pair} is measured"]
    draws = max(1, work.draws // FIRST_TOKEN_SHARE)
    one = run.draw(trips, layer, draws, chunk)
    restart_ms = _restart_ms(run, trips)
    if chunks == 1:
        return one.total + restart_ms, _said(restart_ms)
    if run.engine.pattern == "star":
        each = one.total
        if run.engine.result != "activation":  # only the last chunk has a result to hand back
            each = each - one.network.ms[:, -1] - work.hop_overhead_ms - one.head
        return one.total + (chunks - 1) * each + restart_ms, _said(restart_ms)
    overhead = run.overhead_ms + work.proof_ms * chunk * np.array([stage.layers for stage in run.placement])
    stages = np.array([stage + overhead[k] for k, stage in enumerate(one.stages)])
    busiest = np.maximum(stages.max(axis=0), max(run.wire_ms(trips), default=0.0))
    return one.total + (chunks - 1) * busiest + restart_ms, _said(restart_ms)


def _restart_ms(run: Pipeline, trips: Sequence[Trip]) -> float:
    """Return what TCP adds to a prompt after a pause: every window has shrunk to its initial size (RFC 5681 §4.1).

    Measured hops do not show it: they carry one token at decode cadence, which fits the initial window. It is counted
    for measured swarms; hand-written figures are taken as exact unless `slow_start` is set.
    """
    if by_hand(run.swarm) and not run.workload.slow_start:
        return 0.0
    links = run.costs.links
    extra = {size: links.slow_start_ms(size) for size in {trip.size_bytes for trip in trips}}
    # deliveries over paths without a measured hop have it already where `slow_start` asks for it
    return sum(
        float(extra[trip.size_bytes][trip.src, trip.dst])
        for trip in trips
        if links.hop_known[trip.src, trip.dst] or not run.workload.slow_start
    )


def _said(restart_ms: float) -> list[str]:
    if restart_ms < WORTH_SAYING_MS:
        return []
    return [
        f"first token: {restart_ms:.0f} ms of it is TCP starting slowly after a pause; "
        "net.ipv4.tcp_slow_start_after_idle=0 on every machine saves most of that"
    ]


def _no_faster_than(run: Pipeline, step: LayerColumns, prefill: LayerColumns) -> LayerColumns:
    """Bound the prefill from below: a chunk reads at least a decode step's weights; the head is paid for one token."""
    work = run.workload
    whole = run.model.bytes_touched(work.weights, 1, work.context)
    reading = step.ms * (run.model.weights_touched(work.weights, 1) / whole)
    floor = np.where(np.isfinite(reading), reading, 0.0)
    return replace(prefill, ms=np.maximum(prefill.ms, floor), head_ms=step.head_ms)
