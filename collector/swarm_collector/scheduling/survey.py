"""Estimate the unmeasured parts of a large swarm, and choose the links worth measuring; run in a thread.

From the measured pairs come coordinates (`network_coordinates`); from the swarm completed with them comes the best
chain for the focused model. The links among that chain's nodes decide what the plan is worth: they are measured by both
ends, and more often. Pure but for the time it takes; `periodic_tasks` runs it and shows what it found.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from swarm_collector.focus_model import model_of
from swarm_collector.scheduling.network_coordinates import DIMENSIONS, Coordinates, fit
from swarm_predict.cost.build import build_tables
from swarm_predict.model.weight_formats import is_format
from swarm_predict.search.solve import solve
from swarm_predict.types import PredictError, Workload
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.snapshot.links.fill_unmeasured import PLACE, completed
from swarm_protocol.snapshot.links.link_table import DENSE_NODES
from swarm_protocol.snapshot.swarm import Floats, Ints, Swarm

EVERY_S: Final = 60.0
SEARCH_S: Final = 1.5  # in a thread that shares the interpreter with the ingest
MAX_CHAIN: Final = 12  # nodes: 132 directed links at most are measured for the plan
NEAR: Final = 24  # candidates for "nearest" that nobody measured yet
MAX_NEW: Final = 0.2  # of the nodes: with more, the fit begins from nothing
SEED: Final = 1


@dataclass(frozen=True, slots=True)
class Survey:
    """The result of a survey; empty at first."""

    ids: tuple[str, ...] = ()
    coordinates: Coordinates | None = None
    wanted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # node → peers that the best placement gives it
    why_not: str = ""  # no placement is known: the planner's words

    def near(self, node_id: str) -> dict[str, float]:
        """Return the nearest nodes by estimate, and how far they are, in ms."""
        if self.coordinates is None or node_id not in self.ids:
            return {}
        me = self.ids.index(node_id)
        others = np.flatnonzero(self.coordinates.known > 0)
        others = others[others != me]
        rtt = self.coordinates.rtt_ms(np.full(len(others), me), others)
        nearest = np.argsort(rtt)[:NEAR]
        return {self.ids[int(others[k])]: float(rtt[k]) for k in nearest}


def survey(swarm: Swarm, pairs: tuple[Ints, Ints, Floats], focus: Focus, before: Survey) -> Survey:
    """Survey a swarm. `pairs`: (src, dst, lowest RTT in ms) of measured pairs, rows of `swarm`."""
    ids = tuple(facts.node_id for facts in swarm.facts)
    src, dst, rtt_ms = pairs
    if not len(src):
        return Survey(ids)
    rng = np.random.default_rng(SEED)
    found = fit(len(ids), src, dst, rtt_ms, rng, before=_carried(before, ids, rng))
    if len(ids) > DENSE_NODES:
        return Survey(ids, found)
    for name, column in columns_of(found).items():
        swarm.nodes[name] = column
    try:
        chain = _best_chain(completed(swarm), focus)
    except PredictError as error:
        return Survey(ids, found, {}, str(error))
    wanted = {ids[a]: tuple(ids[b] for b in chain if b != a) for a in chain}
    return Survey(ids, found, wanted)


def _carried(before: Survey, ids: tuple[str, ...], rng: np.random.Generator) -> Coordinates | None:
    """Return the coordinates of the survey before for these nodes, of a newcomer among the others; None where too few
    were known: nodes come and go in a large swarm every minute, and a fit from nothing takes ten times as long."""
    known = before.coordinates
    if known is None or before.ids == ids:
        return known
    row = {node_id: i for i, node_id in enumerate(before.ids)}
    rows = np.array([row.get(node_id, -1) for node_id in ids], np.int64)
    new = rows < 0
    if np.count_nonzero(new) > MAX_NEW * len(ids):
        return None
    place, height = known.place[rows], known.height[rows]
    place[new] = rng.normal(known.place.mean(axis=0), known.place.std(axis=0), (np.count_nonzero(new), DIMENSIONS))
    height[new] = np.median(known.height)
    return Coordinates(place, height, known.spread[rows], known.known[rows])


def columns_of(found: Coordinates) -> dict[str, Floats]:
    """Return the Swarm's coordinate columns; NaN for a node without measurements."""
    known = found.known > 0
    columns = {name: np.where(known, found.place[:, k], np.nan) for k, name in enumerate(PLACE)}
    columns["height_ms"] = np.where(known, found.height, np.nan)
    columns["place_spread"] = np.where(known, found.spread, np.nan)
    return columns


def _best_chain(swarm: Swarm, focus: Focus) -> tuple[int, ...]:
    weights = focus.dtype if is_format(focus.dtype) else "fp16"
    tables = build_tables(swarm, model_of(focus), Workload(weights=weights))
    found = solve(tables, time_limit_s=SEARCH_S, prove=False)
    return tuple(itertools.islice(found.order, MAX_CHAIN))
