"""Estimate how much of the delay variation of paths is queueing at the access link of one of their ends.

Messages of one step that pass the same busy uplink are late together, and the interval of their sum is wider than that
of independent messages: in a star every message passes the client. With enough measured paths the cause can be
identified: if access links are to blame, the variance of each path is the sum of its two ends',

    v(i, j) = a(i) + a(j)

for every pair. The adjusted R² of that fit is the share of the variation among the pairs that it explains; for paths
that vary independently it is zero apart from chance. With too few pairs for the fit, nothing is shared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from swarm_predict.cost.network.delivery_times import Links
from swarm_protocol.snapshot.swarm import Floats

_LN20: Final = math.log(20)  # p95 of an exponential with mean 1
MAX_NODES: Final = 40  # beyond, the fit takes too long; a step that long is close to its mean anyway


def access_share(paths: Links) -> Floats:
    """Return (n, n): the share (0…1) of the variance of i → j that messages at i have in common. The diagonal is 0."""
    count = len(paths.rows)
    none = np.zeros((count, count))
    if not 4 <= count <= MAX_NODES:  # three nodes have three pairs, which any three numbers explain
        return none
    high = np.where(paths.hop_known, paths.hop_p95_ms, paths.rtt_p95_ms)
    low = np.where(paths.hop_known, paths.hop_min_ms, paths.rtt_min_ms)
    spread = np.where(np.isnan(high), paths.jitter_ms, high - low) / _LN20
    variance = np.fmax(spread, 0.0) ** 2
    one, other = np.triu_indices(count, 1)
    both = np.stack([variance[one, other], variance[other, one]])
    known = np.isfinite(both).any(axis=0)
    one, other = one[known], other[known]
    if len(one) <= count:
        return none
    seen = np.nanmean(both[:, known], axis=0)
    ends = np.zeros((len(one), count))
    ends[np.arange(len(one)), one] = ends[np.arange(len(one)), other] = 1.0
    at = np.maximum(np.linalg.lstsq(ends, seen, rcond=None)[0], 0.0)
    left = float(((seen - ends @ at) ** 2).sum()) / (len(one) - count)
    among = float(((seen - seen.mean()) ** 2).sum()) / (len(one) - 1)
    if among <= 0:  # all pairs vary alike: the cause cannot be identified
        return none
    explained = max(0.0, 1 - left / among)
    total = at[:, None] + at[None, :]
    share = np.divide(at[:, None] * explained, total, out=none, where=total > 0)
    np.fill_diagonal(share, 0.0)
    return np.asarray(share)


def late_together(share: Floats, pairs: Sequence[tuple[int, int]], rng: np.random.Generator, draws: int) -> Floats:
    """Return uniform numbers, (draws, messages), each column independent. In the share of steps given by `share`,
    messages at one access link (of the end that more of them pass) have the same number; means do not change."""
    uniform = rng.random((draws, len(pairs)))
    passes: dict[int, int] = {}
    for src, dst in pairs:
        passes[src] = passes.get(src, 0) + 1
        passes[dst] = passes.get(dst, 0) + 1
    at = [dst if passes[dst] > passes[src] else src for src, dst in pairs]
    for node in sorted(set(at)):
        here = [k for k, where in enumerate(at) if where == node]
        parts = [share[node, pairs[k][1] if pairs[k][0] == node else pairs[k][0]] for k in here]
        if len(here) < 2 or max(parts) <= 0:
            continue
        common, turn = rng.random(draws), rng.random(draws)
        for k, part in zip(here, parts, strict=True):
            uniform[:, k] = np.where(turn < part, common, uniform[:, k])
    return uniform
