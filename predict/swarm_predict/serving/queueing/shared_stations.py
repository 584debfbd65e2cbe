"""Model routes that share stations: how their visits delay each other, and how many requests each should take.

Each route is a closed loop of its own (`cycle_time`). At a station that other routes visit too, their visits take a
share ρ of the time: a pass finds one in service with chance ρ, and waits ρ · E[S²] / (2 E[S]) on average, S being their
service times. Loops are not synchronised, so the visit found is one at a random moment. A station that all loops
together would overload serves in order of arrival: every loop waits equally long, so that the station is just fully
busy (`route.shared_wait_ms`). ρ, S and the visits in flight depend on the arrivals and batches of the other routes, and
theirs on this route: a fixed point, found by iteration.

Requests are divided among the routes by a maximum flow (Mei et al., Helix, arXiv 2406.01566, §4): no shared station is
loaded beyond its capacity at full batches, and no route beyond what it sustains alone; among equal flows, the one that
loads all routes most evenly is chosen. If caches limit first, the shares are those with which all are full together, if
that sustains more. `python -m bench serving` compares this with an event simulation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from swarm_predict.serving.queueing.continuous_batching import Loaded, Served
from swarm_predict.serving.routes.route import Loop, Others, Route
from swarm_protocol.snapshot.swarm import Floats

TURNS: Final = 10  # iterations of the fixed point, at most
CLOSE: Final = 2e-3  # share of a station's time: the iteration has converged
POINTS: Final = 16  # numbers of sequences whose cycle is computed in each iteration
MAX_BUSY: Final = 0.98  # share of a station's time taken by others; above it, no capacity is left
STEPS: Final = 8  # of the search for the most that is sustained
MIN_SHARE: Final = 0.01  # of the requests: every route gets some
ALIKE: Final = 1e-3  # share of the flow that may be given up to load routes evenly
ALL_OF_IT: Final = 0.95  # share of a flow that is sustained at least, unless something else limits
NEARLY_ALL: Final = 1 - 1e-6
NOTHING: Final = 1e-12  # seconds a request takes at a station: one with less limits no flow
SINGULAR: Final = 1e-12
NO_ARRIVALS: Final = 1e-9  # a second


class SharedRoutes:
    """Routes some of whose stations are the same."""

    def __init__(self, routes: Sequence[Route], alone: Sequence[Loaded] | None = None) -> None:
        self.routes = tuple(routes)
        self.alone = tuple(alone or (Loaded(route) for route in routes))
        self.shares: tuple[float, ...] = ()
        self.most_per_s = 0.0
        flow = self._flow()
        self.shares = _normal(flow)
        self.most_per_s = self._most()
        if self.most_per_s < ALL_OF_IT * float(flow.sum()):  # caches end first
            by_flow, most = self.shares, self.most_per_s
            self.shares = self._by_room()
            self.most_per_s = self._most()
            if self.most_per_s <= most:
                self.shares, self.most_per_s = by_flow, most

    def under(self, arrivals_per_s: float) -> tuple[list[Loaded], list[Served]]:
        """Return every route with what the others leave it, and how it serves its share of the arrivals."""
        rates = [max(NO_ARRIVALS, arrivals_per_s * share) for share in self.shares]
        loaded = list(self.alone)
        served = [each.under(rate) for each, rate in zip(loaded, rates, strict=True)]
        before = np.zeros(sum(len(route.stations) for route in self.routes))
        for _ in range(TURNS):
            for k, route in enumerate(self.routes):
                others = self._others(k, loaded, served)
                loaded[k] = Loaded(replace(route, others=others), POINTS)
                served[k] = loaded[k].under(rates[k])
            now = np.concatenate([np.array(each.busy) for each in served])
            if float(np.abs(now - before).max()) < CLOSE:
                break
            before = now
        return loaded, served

    def _others(self, k: int, loaded: Sequence[Loaded], served: Sequence[Served]) -> Others:
        """Return what all routes but the k-th do at its stations."""
        stations = self.routes[k].stations
        busy, wait = np.zeros(len(stations)), np.zeros(len(stations))
        loops: list[list[Loop]] = [[] for _ in stations]
        for other, (each, found) in enumerate(zip(loaded, served, strict=True)):
            if other == k:
                continue
            at = {station.name: j for j, station in enumerate(each.route.stations)}
            there = max(1.0, found.sequences)
            met_ms, alone = met(each.route, there), replace(each.route, others=None).loaded(there)
            cycle = self.alone[other].cycle_at(there)
            for j, station in enumerate(stations):
                here = at.get(station.name)
                if here is not None:
                    busy[j] += found.busy[here]
                    wait[j] += found.busy[here] * met_ms[here]
                    in_flight = min(found.sequences, float(each.route.in_flight(there)))
                    loops[j].append(Loop(in_flight, float(alone.station_ms[here]), alone.way_ms, cycle))
        return Others(np.minimum(busy, MAX_BUSY), wait, tuple(tuple(each) for each in loops))

    def _flow(self) -> Floats:
        """Return the largest flow, in requests a second of each route."""
        names = [[station.name for station in route.stations] for route in self.routes]
        common = sorted({n for a, b in itertools.combinations(names, 2) for n in a if n in b})
        each_request = np.zeros((len(common), len(self.routes)))  # seconds of a station's time
        for r, (loaded, here) in enumerate(zip(self.alone, names, strict=True)):
            busy = loaded.busy_at_most() / loaded.most_per_s
            for s, name in enumerate(common):
                each_request[s, r] = sum(float(part) for part, n in zip(busy, here, strict=True) if n == name)
        return fair_flow(each_request, np.array([each.most_per_s for each in self.alone]))

    def _by_room(self) -> tuple[float, ...]:
        """Return the shares with which all routes have as many requests as fit."""
        loaded = list(self.alone)
        for _ in range(TURNS):
            served = [each.under(2 * each.most_per_s) for each in loaded]
            loaded = [
                Loaded(replace(route, others=self._others(k, loaded, served)), POINTS)
                for k, route in enumerate(self.routes)
            ]
        return _normal(np.array([each.most_per_s for each in loaded]))

    def _most(self) -> float:
        """Return the largest arrival rate that all routes sustain with their shares."""
        high = min(each.most_per_s / share for each, share in zip(self.alone, self.shares, strict=True))
        if self._sustains(high * NEARLY_ALL):
            return high
        low = 0.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._sustains(middle) else (low, middle)
        return low

    def _sustains(self, arrivals_per_s: float) -> bool:
        return all(each.sustained for each in self.under(arrivals_per_s)[1])


def _normal(flow: Floats) -> tuple[float, ...]:
    shares = np.maximum(flow / flow.sum(), MIN_SHARE)
    return tuple(float(share) for share in shares / shares.sum())


def met(route: Route, sequences: float) -> Floats:
    """Return (stations,): what a visit of this route in service still takes on average, at a random moment."""
    each = route.loaded(sequences)
    part = route.prompts.station_ms
    chance, weights = each.parts, route.prompts.weights
    mean = each.token_ms + chance * (weights @ part)
    square = each.token_ms**2 + 2 * each.token_ms * chance * (weights @ part) + chance * (weights @ part**2)
    return np.asarray(np.divide(square, 2 * mean, out=np.zeros_like(mean), where=mean > 0))


def fair_flow(each_request: Floats, most: Floats) -> Floats:
    """Return (routes,): requests a second of the largest total; of equal ones, all routes loaded most alike.

    `each_request` is (stations, routes): seconds that a request keeps a station; `most` is (routes,)."""
    routes = len(most)
    rows, sides = np.vstack([each_request, np.eye(routes)]), np.append(np.ones(len(each_request)), most)
    total = float(_best_vertex(np.ones(routes), rows, sides).sum())
    # the largest t with flow ≥ t · most, and all but a thousandth of the total
    alike = np.hstack([-np.eye(routes), most[:, None]])
    rows = np.vstack(
        [np.hstack([rows, np.zeros((len(rows), 1))]), alike, np.append(-np.ones(routes), 0.0)[None, :]]
    )  # fmt: skip
    sides = np.concatenate([sides, np.zeros(routes), [-total * (1 - ALIKE)]])
    return _best_vertex(np.append(np.zeros(routes), 1.0), rows, sides)[:routes]


def _best_vertex(worth: Floats, rows: Floats, sides: Floats) -> Floats:
    """Return the x ≥ 0 with rows · x ≤ sides and the largest worth · x, among all vertices: for few routes."""
    count = len(worth)
    rows, sides = np.vstack([rows, -np.eye(count)]), np.append(sides, np.zeros(count))
    scale = np.abs(rows).max(axis=1)
    limits = scale > NOTHING
    rows, sides = rows[limits] / scale[limits, None], sides[limits] / scale[limits]
    best = -math.inf
    found: Floats = np.zeros(count)
    for chosen in itertools.combinations(range(len(rows)), count):
        matrix = rows[list(chosen)]
        with np.errstate(divide="ignore"):  # of a singular one numpy multiplies logarithms of 0
            if abs(np.linalg.det(matrix)) < SINGULAR:
                continue
        at = np.linalg.solve(matrix, sides[list(chosen)])
        if np.all(rows @ at <= sides + 1e-9 * (1 + np.abs(sides))) and float(worth @ at) > best:
            best, found = float(worth @ at), np.asarray(at)
    return np.asarray(np.maximum(found, 0.0))
