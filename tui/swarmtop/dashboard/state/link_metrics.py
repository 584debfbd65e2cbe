"""Compute the figure of every directed link, by metric: now, or its difference from the mark."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from swarm_protocol.snapshot.swarm import Floats, Ints, Kind, Swarm

Limits = tuple[float, float, float, float]
WORSE: Final[Limits] = (-5, 5, 20, 100)  # per cent of the figure at the mark
LESS: Final[Limits] = (-50, -20, -5, 5)
MORE_LOST: Final[Limits] = (
    -0.5,
    0.5,
    2,
    10,
)  # percentage points: most links lose nothing, and of nothing there is no percentage


@dataclass(frozen=True, slots=True)
class LinkMetric:
    name: str
    column: str
    title: str
    unit: str
    limits: Limits  # limits between the five shades
    high_is_bad: bool = True
    scale: float = 1.0
    since_mark: bool = False  # the figure is a difference


LINK_METRICS: Final[tuple[LinkMetric, ...]] = (
    LinkMetric("p50", "rtt_p50_ms", "RTT p50", "ms", (10, 40, 100, 200)),
    LinkMetric("p99", "rtt_p99_ms", "RTT p99", "ms", (20, 80, 200, 400)),
    LinkMetric("one-way", "oneway_ms", "one way", "ms", (5, 20, 50, 100)),
    LinkMetric("loss", "loss", "loss", "%", (0.1, 0.5, 2, 5), scale=100),
    LinkMetric("mbps", "mbps", "rate", "Mbit/s", (10, 30, 100, 300), high_is_bad=False),
    LinkMetric("jitter", "jitter_ms", "jitter", "ms", (2, 8, 20, 50)),
    LinkMetric("hop", "hop_p50_ms", "hop", "ms", (20, 60, 150, 300)),
)


@dataclass(frozen=True, slots=True)
class MarkedLinks:
    """All links at the mark, in single precision: 24 MB for a swarm of 1,000."""

    rows: Mapping[str, int]  # by node id
    matrices: Mapping[str, npt.NDArray[np.float32]]  # by column


def marked(swarm: Swarm) -> MarkedLinks:
    return MarkedLinks(
        {facts.node_id: row for row, facts in enumerate(swarm.facts)},
        {metric.column: values(swarm, metric).astype(np.float32) for metric in LINK_METRICS},
    )


def since_mark(metric: LinkMetric) -> LinkMetric:
    """Return the same metric as a difference: per cent of its value at the mark; loss in percentage points."""
    named = {"name": f"{metric.name}-since-mark", "title": f"{metric.title} since the mark", "since_mark": True}
    if metric.column == "loss":
        return replace(metric, **named, unit="points", limits=MORE_LOST)  # type: ignore[arg-type]
    return replace(metric, **named, unit="% of then", limits=WORSE if metric.high_is_bad else LESS)  # type: ignore[arg-type]


QUANTILES: Final = (0.2, 0.4, 0.6, 0.8)  # limits between the five shades
SAMPLED: Final = 40_000  # cells from which quantiles are taken: a sample of a large swarm is precise enough


def scaled(metric: LinkMetric, found: Floats) -> LinkMetric:
    """Return the metric with shades by quantiles of what is drawn, rounded to be readable; a difference keeps its own
    limits, since 0 is its neutral value. If fewer than five figures differ, there are fewer shades."""
    if metric.since_mark:
        return metric
    known = found[np.isfinite(found)]
    if len(known) > SAMPLED:
        known = known[:: len(known) // SAMPLED]
    if not len(known):
        return metric
    exact = [float(edge) for edge in np.quantile(known, QUANTILES)]
    edges = [_rounded(edge, 2) for edge in exact]
    if len(set(edges)) < len(set(exact)):  # all alike: one more digit distinguishes them
        edges = [_rounded(edge, 3) for edge in exact]
    return replace(metric, limits=(edges[0], edges[1], edges[2], edges[3]))


def _rounded(value: float, digits: int) -> float:
    """Round to significant digits: a limit that reads well and seldom changes."""
    return round(value, digits - 1 - math.floor(math.log10(abs(value)))) if value and math.isfinite(value) else 0.0


def values(swarm: Swarm, metric: LinkMetric, mark: MarkedLinks | None = None) -> Floats:
    """Return (n, n) from row to column; NaN is no data, now or at the mark. `mark` is needed for a difference."""
    everyone = np.arange(len(swarm))
    return values_between(swarm, metric, everyone, everyone, mark)


def values_between(
    swarm: Swarm, metric: LinkMetric, rows: Ints, columns: Ints, mark: MarkedLinks | None = None
) -> Floats:
    """Return the same from these rows of the swarm to those."""
    at = np.ix_(rows, columns)
    block: Floats = np.array(swarm.links[metric.column][at], np.float64) * metric.scale
    if metric.column.startswith(("rtt_", "jitter")):
        known = (swarm.links["kind"][at] != Kind.NONE) & np.isfinite(swarm.links["rtt_p50_ms"][at])
        block = np.where(known, block, np.nan)
    block[rows[:, None] == columns] = np.nan
    if not metric.since_mark:
        return block
    before = np.full_like(block, np.nan) if mark is None else then(swarm, metric, rows, columns, mark)
    if metric.column == "loss":
        return block - before
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before > 0, 100.0 * (block / before - 1.0), np.nan)


def then(swarm: Swarm, metric: LinkMetric, rows: Ints, columns: Ints, mark: MarkedLinks) -> Floats:
    """Return the figures at the mark, from these rows of the present swarm to those; NaN for nodes that were not
    there."""
    src, dst = (
        np.array([mark.rows.get(swarm.facts[row].node_id, -1) for row in some.tolist()], np.int64)
        for some in (rows, columns)
    )
    there = (src[:, None] >= 0) & (dst >= 0)
    return np.where(there, mark.matrices[metric.column][np.ix_(src, dst)], np.nan)
