"""Fill in the round trips of unmeasured pairs from the nodes' coordinates.

The coordinates are fitted by `swarm_collector.scheduling.network_coordinates`. The collector sends them, six figures
a node; a viewer makes the pairs of them, so that a swarm of a thousand does not have to be sent a million estimates.
What is filled in has the kind ESTIMATE, no age and no packets: it is shown with ~ wherever it is shown, and the
predictor widens its interval by it. A measured pair, or one whose other direction was measured, is left as it is."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from swarm_protocol.snapshot.link_table import DENSE_NODES
from swarm_protocol.snapshot.swarm import Floats, Kind, Path, Swarm

PLACE: Final = ("place_0", "place_1", "place_2", "place_3")
_SHAPES: Final = ("rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms")


def completed(swarm: Swarm) -> Swarm:
    """The same swarm with an estimate wherever there are coordinates and no measurement; itself where there is none."""
    n = len(swarm)
    height, spread = swarm.nodes["height_ms"], swarm.nodes["place_spread"]
    placed = np.isfinite(height)
    if n > DENSE_NODES or np.count_nonzero(placed) < 2:
        return swarm
    known = np.isfinite(swarm.links["rtt_min_ms"])
    blank = placed[:, None] & placed[None, :] & ~(known | known.T) & (swarm.links["kind"] == Kind.NONE)
    np.fill_diagonal(blank, False)
    if not blank.any():
        return swarm
    src, dst = np.nonzero(blank)
    place = np.stack([swarm.nodes[name] for name in PLACE], axis=1)
    least = np.sqrt(((place[src] - place[dst]) ** 2).sum(-1)) + height[src] + height[dst]
    wider = 1.0 + np.maximum(spread[src], spread[dst])
    links = dict(swarm.links)
    values: dict[str, Floats] = {"rtt_min_ms": least}
    for name in _SHAPES:
        values[name] = least * _usual_ratio(swarm, known, name)
    # the tail of an estimate is at least as long as the estimate is unsure
    values["rtt_p95_ms"] = np.maximum(values["rtt_p95_ms"], values["rtt_p50_ms"] * wider)
    values["rtt_p99_ms"] = np.maximum(values["rtt_p99_ms"], values["rtt_p95_ms"])
    values["jitter_ms"] = values["rtt_p95_ms"] - least
    for name, filled in values.items():
        links[name] = links[name].copy()
        links[name][src, dst] = filled
    for name, filled_with in (("kind", Kind.ESTIMATE), ("path", Path.ESTIMATED)):
        links[name] = links[name].copy()
        links[name][src, dst] = filled_with
    for column in links.values():
        column.flags.writeable = False
    return dataclasses.replace(swarm, links=links, _index={})


def _usual_ratio(swarm: Swarm, known: np.ndarray, name: str) -> float:
    """Of this figure to the least, on the links that were measured."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = swarm.links[name][known] / swarm.links["rtt_min_ms"][known]
    ratio = ratio[np.isfinite(ratio)]
    return max(1.0, float(np.median(ratio))) if len(ratio) else 1.0
