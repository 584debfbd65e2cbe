"""Estimate how much a run may deviate because of what is unknown about its network.

A run over paths whose loss, rate or asymmetry is not well known may be slow for that reason, which another network does
not share; a calibration must not take it for the engine (`priors.conditioning`). Delay variation and single
retransmissions are no part of it: over a run's tokens they average out. The windows that losses leave are, seen and not
yet seen: they last for many tokens, so that two runs of the same thing over 0.5 % loss took 47 and 87 ms a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from swarm_predict.cost.network.delivery_times import Links
from swarm_predict.cost.network.lost_packets import draw_chances
from swarm_predict.cost.network.window_after_loss import flights_ms
from swarm_predict.forecast import unseen_losses
from swarm_predict.forecast.draws import Trip, draw_trips, pairs_of
from swarm_predict.forecast.forward_pass.pipeline import Pipeline
from swarm_predict.forecast.forward_pass.tensor_parallel import TensorParallel
from swarm_protocol.snapshot.swarm import Floats

DRAWS: Final = 4000
QUANTILES: Final = 40  # equally likely values that replace the draws
Doubt = tuple[float, ...]  # equally likely delays in ms, ascending; empty: none


def of_stages(run: Pipeline) -> Doubt:
    """Return the delays of a step of stages; none for hand-written figures, which are taken as exact."""
    if run.at_ns is None or not run.trips:
        return ()
    links, trips, slow_start = run.costs.links, run.trips, run.workload.slow_start
    lossless = replace(links, loss=np.zeros_like(links.loss))
    certain = replace(lossless, estimated=np.zeros_like(links.estimated))
    seed = int(run.rng.integers(2**63))  # paired draws, so that delay variation cancels out
    sure, doubted = (
        draw_trips(paths, trips, np.random.default_rng(seed), DRAWS, at_ns, slow_start)
        for paths, at_ns in ((certain, None), (lossless, run.at_ns))
    )
    late_ms = (doubted.ms - sure.ms).sum(axis=1)
    chance = _chances(links, trips, run.rng)
    if np.any(chance):
        src, dst = np.array([t.src for t in trips]), np.array([t.dst for t in trips])
        sizes = np.array([t.size_bytes for t in trips])
        chance[:, links.paces[src]] = 0.0  # of BBR, whose windows losses leave alone
        flights = unseen_losses.drawn_windows(links, trips, chance, run.rng, run.rests_ms())
        waits_ms = flights_ms(flights, sizes, np.nan_to_num(links.rtt_p50_ms[src, dst]), links.rate_mbps[src, dst])
        usual_ms = sum(float(links.lossy_window_ms(trip.size_bytes)[trip.src, trip.dst]) for trip in trips)
        late_ms = late_ms + waits_ms.sum(axis=1) - usual_ms
    return _quantiles(late_ms)


def of_groups(run: TensorParallel) -> Doubt:
    """Return the same for machines that share layers: what losses cost in all rounds, compared with their mean."""
    rounds = unseen_losses.rounds_of(run)
    trips = [trip for _, here in rounds for trip in here]
    if run.at_ns is None or not trips:
        return ()
    late_ms = unseen_losses.mean_delay_ms(run.paths, rounds, _chances(run.paths, trips, run.rng))
    src, dst = np.array([t.src for t in trips]), np.array([t.dst for t in trips])
    known = np.nan_to_num(run.paths.loss[src, dst])[None, :]
    return _quantiles(late_ms - float(unseen_losses.mean_delay_ms(run.paths, rounds, known)[0]))


def _chances(paths: Links, trips: Sequence[Trip], rng: np.random.Generator) -> Floats:
    """Draw the loss of round trips of each message's path, (draws, trips), seen or not seen yet."""
    src, dst = np.array([t.src for t in trips]), np.array([t.dst for t in trips])
    loss = np.nan_to_num(paths.loss[src, dst])
    seen = draw_chances(loss, paths.loss_of[src, dst], pairs_of(paths, src, dst), rng, DRAWS)
    return seen + unseen_losses.draw_unseen_chances(paths, trips, rng, DRAWS)


def _quantiles(late_ms: Floats) -> Doubt:
    return tuple(np.quantile(late_ms, (np.arange(QUANTILES) + 0.5) / QUANTILES).round(3).tolist())
