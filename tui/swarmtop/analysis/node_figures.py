"""One row of figures a node, from the links that touch it: what the ranking shows and sorts by, as numpy columns.

Round trips and jitter are the median over the measured links of a node, both directions; p99 is that of its worst link,
because a pipeline waits for the worst; loss is the mean. NaN means "not measured" and stays NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from swarm_protocol.snapshot.swarm import Bytes, Floats, Ints, Kind, Swarm
from swarm_protocol.units import NS_PER_S

Bools = npt.NDArray[np.bool_]

STALE_AFTER_S = 60.0  # a figure older than this fades: a window of round trips closes far more often
FEW_MIDDLES = 8  # so many places are found faster by partition than by sorting


@dataclass(frozen=True, slots=True)
class Figures:
    """Columns of shape (n,), rows as in the swarm."""

    rtt50_ms: Floats
    rtt99_ms: Floats
    jitter_ms: Floats
    loss: Floats  # fraction
    estimated: Bools  # its round trips are inferred, not measured
    up_mbps: Floats
    up_kind: Bytes
    down_mbps: Floats
    down_kind: Bytes
    layer_ms: Floats  # decode, of the model asked for
    age_s: Floats  # since the node was last heard
    rtt_age_s: Floats  # since its newest link figure
    worst: Ints  # row of the peer with the worst p99; -1: none
    links_measured: int  # of the whole swarm, like the next three
    links_p50_ms: float  # of the median measured link
    links_p99_ms: float
    links_loss: float  # mean over the measured links


def no_links(swarm: Swarm) -> bool:
    """No pair has been measured, and the columns do not even spell that out: one value stands for every pair."""
    kind = swarm.links["kind"]
    return kind.size == 0 or (kind.strides == (0, 0) and kind[0, 0] == Kind.NONE)


def link_known(swarm: Swarm) -> Bools:
    """(n, n): there is a round trip figure, of any kind; never on the diagonal."""
    known: Bools = (swarm.links["kind"] != Kind.NONE) & np.isfinite(swarm.links["rtt_p50_ms"])
    np.fill_diagonal(known, False)
    return known


def age_s(at_ns: Ints, now_ns: int) -> Floats:
    """Seconds since each moment; NaN where it never was. A clock that runs ahead gives 0, not a negative age."""
    ages = np.maximum(0.0, (now_ns - at_ns.astype(np.float64)) / NS_PER_S)
    return np.where(at_ns > 0, ages, np.nan)


def figures(swarm: Swarm, model: str, now_ns: int) -> Figures:
    n = len(swarm)
    if no_links(swarm):
        return _without_links(swarm, model, now_ns)
    links = swarm.links
    known = link_known(swarm)
    measured = known & (links["kind"] == Kind.MEASURED)
    use = np.where((measured.any(axis=1) | measured.any(axis=0))[:, None], _both(measured), _both(known))
    p50 = _masked(links["rtt_p50_ms"], use)
    p99 = _masked(links["rtt_p99_ms"], use)
    worst_of = np.fmax(p99[:, :n], p99[:, n:])
    has_p99: Bools = np.asarray(np.isfinite(worst_of).any(axis=1)) if n else np.zeros(0, bool)
    worst = np.where(has_p99, np.argmax(np.nan_to_num(worst_of, nan=-1.0), axis=1), -1) if n else np.zeros(0, np.int64)
    at = np.where(known, links["at_ns"], 0)
    newest = np.maximum(at.max(axis=1, initial=0), at.max(axis=0, initial=0))
    return Figures(
        rtt50_ms=_median(p50),
        rtt99_ms=np.where(has_p99, np.nanmax(np.where(has_p99[:, None], worst_of, 0.0), axis=1), np.nan)
        if n
        else np.zeros(0),
        jitter_ms=_median(_masked(links["jitter_ms"], use)),
        loss=_mean(_masked(links["loss"], _both(np.isfinite(links["loss"]) & ~np.eye(n, dtype=bool)))),
        estimated=~(measured.any(axis=1) | measured.any(axis=0)) & (known.any(axis=1) | known.any(axis=0)),
        up_mbps=swarm.nodes["up_mbps"],
        up_kind=swarm.nodes["up_kind"],
        down_mbps=swarm.nodes["down_mbps"],
        down_kind=swarm.nodes["down_kind"],
        layer_ms=np.array([layer_ms(swarm, i, model) for i in range(n)], np.float64),
        age_s=age_s(swarm.nodes["seen_ns"], now_ns),
        rtt_age_s=age_s(newest, now_ns),
        worst=worst.astype(np.int64),
        links_measured=int(measured.sum()),
        links_p50_ms=float(_median(links["rtt_p50_ms"][measured][None, :])[0]),
        links_p99_ms=float(_median(links["rtt_p99_ms"][measured][None, :])[0]),
        links_loss=float(_mean(links["loss"][measured][None, :])[0]),
    )


def _without_links(swarm: Swarm, model: str, now_ns: int) -> Figures:
    n = len(swarm)
    unknown = np.full(n, np.nan)
    return Figures(
        rtt50_ms=unknown, rtt99_ms=unknown, jitter_ms=unknown, loss=unknown, estimated=np.zeros(n, bool),
        up_mbps=swarm.nodes["up_mbps"], up_kind=swarm.nodes["up_kind"], down_mbps=swarm.nodes["down_mbps"],
        down_kind=swarm.nodes["down_kind"],
        layer_ms=np.array([layer_ms(swarm, i, model) for i in range(n)], np.float64),
        age_s=age_s(swarm.nodes["seen_ns"], now_ns), rtt_age_s=unknown, worst=np.full(n, -1), links_measured=0,
        links_p50_ms=float("nan"), links_p99_ms=float("nan"), links_loss=float("nan"),
    )  # fmt: skip


def aged(known: Figures, swarm: Swarm, now_ns: int) -> Figures:
    """The same figures at another moment: only the ages differ."""
    if no_links(swarm):
        return replace(known, age_s=age_s(swarm.nodes["seen_ns"], now_ns))
    links_seen = link_known(swarm)
    at = np.where(links_seen, swarm.links["at_ns"], 0)
    newest = np.maximum(at.max(axis=1, initial=0), at.max(axis=0, initial=0))
    return replace(known, age_s=age_s(swarm.nodes["seen_ns"], now_ns), rtt_age_s=age_s(newest, now_ns))


def layer_ms(swarm: Swarm, row: int, model: str) -> float:
    """The decode time of one layer of `model` at batch 1, shortest context; NaN where nobody measured it."""
    fitting = [t for t in swarm.facts[row].layers if t.phase == "decode" and t.model in (model, "*")]
    if not fitting:
        return float("nan")
    return min(fitting, key=lambda t: (t.batch, t.context, -t.at_ns)).ms


def _both(mask: Bools) -> Bools:
    """(n, 2n): a node's links out, then its links in."""
    return np.concatenate([mask, mask.T], axis=1)


def _masked(matrix: Floats, use: Bools) -> Floats:
    return np.where(use, np.concatenate([matrix, matrix.T], axis=1), np.nan)


def _median(rows: Floats) -> Floats:
    """Median of each row without its NaNs; NaN where there is nothing. (nanmedian warns, and walks row by row.)"""
    known = np.isfinite(rows)
    count = known.sum(axis=1)
    widest = int(count.max(initial=0))
    if not widest:
        return np.full(rows.shape[0], np.nan)
    # only what is known, moved to the left: most pairs of a large swarm are never measured
    packed = np.full((rows.shape[0], widest), np.inf)
    packed[np.arange(widest) < count[:, None]] = rows[known]
    low, high = np.maximum(0, (count - 1) // 2), count // 2
    middles = np.unique(np.concatenate([low, np.minimum(high, widest - 1)]))
    packed.partition(middles, axis=1) if len(middles) <= FEW_MIDDLES else packed.sort(axis=1)
    at = np.arange(rows.shape[0])
    middle = (packed[at, low] + packed[at, np.minimum(high, widest - 1)]) / 2
    return np.where(count > 0, middle, np.nan)


def _mean(rows: Floats) -> Floats:
    count = np.isfinite(rows).sum(axis=1)
    return np.where(count > 0, np.nansum(rows, axis=1) / np.maximum(count, 1), np.nan)
