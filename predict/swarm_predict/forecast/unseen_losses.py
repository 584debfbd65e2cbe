"""Draw what losses would cost on paths that have shown none so far.

A path that lost none of some hundred packets may still lose one in three hundred (`lost_packets.lossy_share`). That it
does is less likely than not, so a prediction's median and mean stay as if it did not, and its slow half holds what
might be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swarm_predict.cost.all_reduce import messages
from swarm_predict.cost.machine_groups import ALL_REDUCES_PER_LAYER
from swarm_predict.cost.network.delivery_times import Links, Mask
from swarm_predict.cost.network.lost_packets import draw_lost, draw_unseen, retransmission
from swarm_predict.cost.network.window_after_loss import flights_ms, segments_of
from swarm_predict.forecast.draws import Trip, drawn_flights, pairs_of
from swarm_predict.forecast.forward_pass.pipeline import Pipeline
from swarm_predict.forecast.forward_pass.tensor_parallel import TensorParallel
from swarm_protocol.snapshot.swarm import Floats

Rounds = list[tuple[float, list[Trip]]]  # how often each is repeated, and its messages, which leave together


def of_stages(run: Pipeline) -> Floats | None:
    """Draw the delay of a step of stages, (draws,); None for hand-written figures, which are taken as exact, and for
    compared copies."""
    if run.at_ns is None or run.workload.redundancy > 1:
        return None
    rng = run.rng.spawn(1)[0]  # numbers of its own: all others are the same with and without
    later_ms = draw_trips_later(run.costs.links, run.trips, rng, run.workload.draws, run.rests_ms())
    return np.asarray(later_ms.sum(axis=1))


def of_groups(run: TensorParallel) -> Floats | None:
    """Draw the same of a step of machines that share layers, (draws,). Over many rounds a path's losses cost their
    mean."""
    if run.at_ns is None:
        return None
    return draw_rounds_later(run.paths, rounds_of(run), run.rng.spawn(1)[0], run.workload.draws)


def rounds_of(run: TensorParallel) -> Rounds:
    """Return all rounds of a step."""
    size = run.engine.reduce_bytes(run.model, run.width, run.workload.activations)
    rounds: Rounds = [(1.0, trips) for trips in run.single_trips(run.width)]
    for group in run.groups:
        for here in messages(run.all_reduce, len(group.members), size):
            trips = [Trip(group.members[a], group.members[b], sent, None) for a, b, sent in here]
            rounds.append((float(ALL_REDUCES_PER_LAYER * group.layers), trips))
    return rounds


def draw_trips_later(
    paths: Links, trips: Sequence[Trip], rng: np.random.Generator, draws: int, rest_ms: Floats | float = 0.0
) -> Floats:
    """Draw the delay of each message, (draws, trips). `rest_ms` as in `draw_trips`."""
    chance = draw_unseen_chances(paths, trips, rng, draws)
    if not np.any(chance):
        return chance
    src, dst = np.array([t.src for t in trips]), np.array([t.dst for t in trips])
    sizes, rtt_ms = np.array([t.size_bytes for t in trips]), np.nan_to_num(paths.rtt_p50_ms[src, dst])
    flights = drawn_windows(paths, trips, chance, rng, rest_ms)
    rate = paths.rate_mbps[src, dst]
    lost = draw_lost(chance, sizes, rtt_ms, rng, flights, rate)
    return lost + flights_ms(flights, sizes, rtt_ms, rate)


def draw_unseen_chances(paths: Links, trips: Sequence[Trip], rng: np.random.Generator, draws: int) -> Floats:
    """Draw the loss of round trips on the paths of messages that have shown none, (draws, trips); 0 on the others."""
    chance = np.zeros((draws, len(trips)))
    some = np.flatnonzero(_clean(paths, trips))
    if len(some):
        src, dst = np.array([t.src for t in trips])[some], np.array([t.dst for t in trips])[some]
        chance[:, some] = draw_unseen(paths.loss_of[src, dst], pairs_of(paths, src, dst), rng, draws)
    return chance


def drawn_windows(
    paths: Links, trips: Sequence[Trip], chance: Floats, rng: np.random.Generator, rest_ms: Floats | float
) -> Floats:
    """Draw the windows that each message waits for, (draws, trips), at `chance` of losing a round trip."""
    src, dst = np.array([t.src for t in trips]), np.array([t.dst for t in trips])
    segments = segments_of(np.array([t.window_bytes for t in trips]))
    limited = np.asarray(chance.any(axis=0))
    flights = drawn_flights(chance, segments, paths.halvings(src, dst, rest_ms), limited, paths.reno[src], rng)
    return np.where(chance > 0, flights, 0.0)


def draw_rounds_later(paths: Links, rounds: Rounds, rng: np.random.Generator, draws: int) -> Floats:
    """Draw the delay of all rounds together, (draws,); any message delays its round."""
    trips = [trip for _, here in rounds for trip in here]
    chance = draw_unseen_chances(paths, trips, rng, draws)
    return mean_delay_ms(paths, rounds, chance)


def mean_delay_ms(paths: Links, rounds: Rounds, chance: Floats) -> Floats:
    """Return what losses add to all rounds on average, (draws,), at `chance` (draws, messages) of losing a round
    trip."""
    trips = [trip for _, here in rounds for trip in here]
    if not trips:
        return np.zeros(len(chance))
    times = np.array([count for count, here in rounds for _ in here])
    src, dst = np.array([t.src for t in trips]), np.array([t.dst for t in trips])
    sizes, rtt_ms = np.array([t.size_bytes for t in trips]), np.nan_to_num(paths.rtt_p50_ms[src, dst])
    return np.asarray(retransmission(chance, sizes, rtt_ms, rate_mbps=paths.rate_mbps[src, dst]).mean_ms @ times)


def _clean(paths: Links, trips: Sequence[Trip]) -> Mask:
    """Return which messages take a path that was measured and lost nothing."""
    if not trips:
        return np.zeros(0, dtype=bool)
    src, dst = np.array([t.src for t in trips]), np.array([t.dst for t in trips])
    measured = (paths.loss_of[src, dst] > 0) & np.isfinite(paths.rtt_p50_ms[src, dst])
    return np.asarray((paths.loss[src, dst] == 0) & measured & ~paths.paces[src] & (src != dst))
