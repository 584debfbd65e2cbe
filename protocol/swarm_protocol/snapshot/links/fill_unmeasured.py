"""Fill in the round trips of unmeasured pairs, from the nodes' coordinates and nearby measurements.

The coordinates are fitted by `swarm_collector.scheduling.network_coordinates`. The collector sends them, six figures a
node; a viewer derives the pairs (`unmeasured_pairs`), so that a swarm of a thousand does not have to be sent a million
estimates. Values filled in have the kind ESTIMATE, no age and no packets: they are shown with ~ everywhere, and the
predictor widens its interval by them. A measured pair, or one whose other direction was measured, stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any, Final

import numpy as np

from swarm_protocol.snapshot.estimates.unmeasured_pairs import PairEstimates, estimate_pairs
from swarm_protocol.snapshot.links.compact_links import CompactColumn, is_compact
from swarm_protocol.snapshot.links.link_table import DENSE_NODES
from swarm_protocol.snapshot.swarm import Floats, Ints, Kind, Path, Swarm

PLACE: Final = ("place_0", "place_1", "place_2", "place_3")
_PLACED: Final = (*PLACE, "height_ms", "place_spread")
MEDIANS_TO_P95: Final = 2.44  # the 95th percentile of a normal's size, in medians of it
_SHAPES: Final = ("rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms")


def completed(swarm: Swarm) -> Swarm:
    """Return the swarm with an estimate wherever there are coordinates and no measurement; itself where there is
    none."""
    return Completer().completed(swarm)


class Completer:
    """Complete the frames of one swarm.

    Pairs are estimated again when the coordinates are, once a minute: it takes longer than everything else that is done
    with a frame. Of compact links only those that changed are filled in again, as long as the coordinates stand and the
    same pairs are measured.
    """

    def __init__(self) -> None:
        self._plain: Swarm | None = None  # the frame before, and completed
        self._filled: Swarm | None = None
        self._made_from: Hashable = None
        self._estimates: PairEstimates | None = None
        self._rows: Ints = np.zeros(0, np.int64)  # of each node in the estimates

    def completed(self, swarm: Swarm) -> Swarm:
        """Return what `completed` does, with estimates that may be as old as the coordinates."""
        links = self._links(swarm)
        filled = self._completed(swarm) if links is None else dataclasses.replace(swarm, links=links, _index={})
        self._plain, self._filled = swarm, filled
        return filled

    def _completed(self, swarm: Swarm) -> Swarm:
        height = swarm.nodes["height_ms"]
        placed = np.isfinite(height)
        if len(swarm) > DENSE_NODES or np.count_nonzero(placed) < 2:
            return swarm
        known = np.isfinite(swarm.links["rtt_min_ms"])
        blank = placed[:, None] & placed[None, :] & ~(known | known.T) & (swarm.links["kind"] == Kind.NONE)
        np.fill_diagonal(blank, False)
        if not blank.any():
            return swarm
        src, dst = np.nonzero(blank)
        place = np.stack([swarm.nodes[name] for name in PLACE], axis=1)
        made_from = (tuple(facts.node_id for facts in swarm.facts), place.tobytes(), height.tobytes())
        if made_from != self._made_from:
            self._made_from, self._rows = made_from, np.cumsum(placed) - 1
            self._estimates = estimate_pairs(place[placed], height[placed], *_measured(swarm, placed))
        if self._estimates is None:
            least = np.sqrt(((place[src] - place[dst]) ** 2).sum(-1)) + height[src] + height[dst]
            spread = swarm.nodes["place_spread"]
            return _filled(swarm, known, src, dst, least, 1.0 + MEDIANS_TO_P95 * np.maximum(spread[src], spread[dst]))
        rows = self._rows[src], self._rows[dst]
        least = self._estimates.rtt_ms[rows].astype(np.float64)
        return _filled(swarm, known, src, dst, least, self._estimates.factor_of(*rows))

    def _links(self, swarm: Swarm) -> dict[str, Any] | None:
        """Return the links after the last frame's; None: the estimates are others."""
        before, filled = self._plain, self._filled
        if before is None or filled is None or len(before) != len(swarm) or not is_compact(filled.links):
            return None
        ids = zip(before.facts, swarm.facts, strict=True)
        if before.facts is not swarm.facts and not all(a.node_id == b.node_id for a, b in ids):
            return None
        if not all(np.array_equal(before.nodes[c], swarm.nodes[c], equal_nan=True) for c in _PLACED):
            return None
        links: dict[str, Any] = dict(filled.links)
        for name, column in swarm.links.items():
            old = before.links[name]
            if column is old:
                continue
            assert isinstance(column, CompactColumn)
            assert isinstance(old, CompactColumn)
            rows, columns = column.changed_cells(old)
            cells = column[rows, columns] if len(rows) else np.zeros(0, column.dtype)
            if name in ("kind", "rtt_min_ms"):
                nothing = np.isnan(cells) if name == "rtt_min_ms" else cells == Kind.NONE
                was = old[rows, columns] if len(rows) else cells
                if not np.array_equal(nothing, np.isnan(was) if name == "rtt_min_ms" else was == Kind.NONE):
                    return None
            links[name] = links[name].with_cells(rows * len(swarm) + columns, cells)
        return links


def _measured(swarm: Swarm, placed: np.ndarray) -> tuple[Ints, Ints, Floats]:
    """Return (src, dst, lowest RTT in ms) of the measured pairs, once each, as rows of the placed nodes."""
    rtt_ms = swarm.links["rtt_min_ms"][np.ix_(placed, placed)]
    src, dst = np.triu_indices(len(rtt_ms), 1)
    least: Floats = np.fmin(rtt_ms[src, dst], rtt_ms[dst, src]).astype(np.float64)
    seen = np.isfinite(least) & (least > 0)
    return src[seen], dst[seen], least[seen]


def _filled(swarm: Swarm, known: np.ndarray, src: Ints, dst: Ints, least: Floats, factor: Floats) -> Swarm:
    """Return the swarm with the estimates `least` of these pairs. `factor`: 5 % of such pairs are above by more."""
    links = dict(swarm.links)
    values: dict[str, Floats] = {"rtt_min_ms": least}
    for name in _SHAPES:
        values[name] = least * _usual_ratio(swarm, known, name)
    # the tail of an estimate is at least as long as its error
    values["rtt_p95_ms"] = np.maximum(values["rtt_p95_ms"], values["rtt_p50_ms"] * factor)
    values["rtt_p99_ms"] = np.maximum(values["rtt_p99_ms"], values["rtt_p95_ms"])
    values["jitter_ms"] = values["rtt_p95_ms"] - least
    at = src * len(swarm) + dst
    for name, filled in values.items():
        links[name] = _put(links[name], at, filled)
    for name, filled_with in (("kind", Kind.ESTIMATE), ("path", Path.ESTIMATED)):
        links[name] = _put(links[name], at, np.full(len(src), filled_with, np.uint8))
    return dataclasses.replace(swarm, links=links, _index={})


def _put(column: Any, at: Ints, filled: np.ndarray) -> Any:
    if isinstance(column, CompactColumn):
        return column.with_cells(at, filled)
    changed = column.copy()
    changed.reshape(-1)[at] = filled
    changed.flags.writeable = False
    return changed


def _usual_ratio(swarm: Swarm, known: np.ndarray, name: str) -> float:
    """Return the usual ratio of this figure to the lowest RTT, on measured links."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = swarm.links[name][known] / swarm.links["rtt_min_ms"][known]
    ratio = ratio[np.isfinite(ratio)]
    return max(1.0, float(np.median(ratio))) if len(ratio) else 1.0
