"""Draw what losses would cost on paths that have shown none so far.

A path that lost none of some hundred packets may still lose one in three hundred (`lost_packets.lossy_share`). That it
does is less likely than not, so a prediction's median stays as if it did not, and its slow half holds what might be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swarm_predict.cost.all_reduce import messages
from swarm_predict.cost.groups import ALL_REDUCES_PER_LAYER
from swarm_predict.cost.network.delivery_times import Links, Mask
from swarm_predict.cost.network.lost_packets import draw_lost, draw_unseen, retransmission
from swarm_predict.cost.network.window_after_loss import flights_ms, segments_of
from swarm_predict.forecast.draws import Trip, drawn_flights, pairs_of
from swarm_predict.forecast.forward_pass.pipeline import Pipeline
from swarm_predict.forecast.forward_pass.tensor_parallel import TensorParallel
from swarm_protocol.snapshot.swarm import Floats


def of_stages(run: Pipeline) -> Floats | None:
    """Draw the delay of a step of stages, (draws,); None for hand-written figures, which are taken as exact, and for
    compared copies."""
    if run.at_ns is None or run.workload.redundancy > 1:
        return None
    rng = run.rng.spawn(1)[0]  # numbers of its own: all others are the same with and without
    return _draw_trips_later(run.costs.links, run.trips, rng, run.workload.draws, run.rests_ms()).sum(axis=1)


def of_groups(run: TensorParallel) -> Floats | None:
    """Draw the same of a step of machines that share layers, (draws,). Over many rounds a path's losses cost their
    mean."""
    if run.at_ns is None:
        return None
    size = run.engine.reduce_bytes(run.model, run.width, run.workload.activations)
    rounds: list[tuple[float, list[Trip]]] = [(1.0, trips) for trips in run.single_trips(run.width)]
    for group in run.groups:
        for here in messages(run.all_reduce, len(group.members), size):
            trips = [Trip(group.members[a], group.members[b], sent, None) for a, b, sent in here]
            rounds.append((float(ALL_REDUCES_PER_LAYER * group.layers), trips))
    return _draw_rounds_later(run.paths, rounds, run.rng.spawn(1)[0], run.workload.draws)


def _draw_trips_later(
    paths: Links, trips: Sequence[Trip], rng: np.random.Generator, draws: int, rest_ms: Floats | float = 0.0
) -> Floats:
    """Draw the delay of each message, (draws, trips). `rest_ms` as in `draw_trips`."""
    later = np.zeros((draws, len(trips)))
    some = np.flatnonzero(_clean(paths, trips))
    if not len(some):
        return later
    chosen = [trips[k] for k in some]
    src, dst = np.array([t.src for t in chosen]), np.array([t.dst for t in chosen])
    sizes, rtt = np.array([t.size_bytes for t in chosen]), paths.rtt_p50_ms[src, dst]
    chance = draw_unseen(paths.loss_of[src, dst], pairs_of(paths, src, dst), rng, draws)
    rests = np.broadcast_to(np.asarray(rest_ms, np.float64), len(trips))[some]
    segments = segments_of(np.array([t.window_bytes for t in chosen]))
    every = np.ones(len(chosen), dtype=bool)
    flights = drawn_flights(chance, segments, paths.halvings(src, dst, rests), every, paths.reno[src], rng)
    flights = np.where(chance > 0, flights, 0.0)
    lost = draw_lost(chance, sizes, rtt, rng, flights)
    later[:, some] = lost + flights_ms(flights, sizes, rtt, paths.rate_mbps[src, dst])
    return later


def _draw_rounds_later(
    paths: Links, rounds: Sequence[tuple[float, Sequence[Trip]]], rng: np.random.Generator, draws: int
) -> Floats:
    """Draw the delay of rounds: how often each is repeated, and its messages, any of which delays it."""
    trips = [trip for _, here in rounds for trip in here]
    times = np.array([count for count, here in rounds for _ in here])
    some = np.flatnonzero(_clean(paths, trips))
    if not len(some):
        return np.zeros(draws)
    src, dst = np.array([trips[k].src for k in some]), np.array([trips[k].dst for k in some])
    chance = draw_unseen(paths.loss_of[src, dst], pairs_of(paths, src, dst), rng, draws)
    sizes = np.array([trips[k].size_bytes for k in some])
    return np.asarray(retransmission(chance, sizes, paths.rtt_p50_ms[src, dst]).mean_ms @ times[some])


def _clean(paths: Links, trips: Sequence[Trip]) -> Mask:
    """Return which messages take a path that was measured and lost nothing."""
    if not trips:
        return np.zeros(0, dtype=bool)
    src, dst = np.array([t.src for t in trips]), np.array([t.dst for t in trips])
    measured = (paths.loss_of[src, dst] > 0) & np.isfinite(paths.rtt_p50_ms[src, dst])
    return np.asarray((paths.loss[src, dst] == 0) & measured & ~paths.paces[src] & (src != dst))
