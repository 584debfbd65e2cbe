"""Evaluate several placements at once: shared machines, the division of memory and requests, and what limits each.

Placements that share nothing are evaluated alone. Those that share a machine or a wire are evaluated together
(`shared_stations`), unless what they share is hardly used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarm_predict.placement import format_placement
from swarm_predict.serving.queueing.continuous_batching import Loaded, Served
from swarm_predict.serving.queueing.shared_stations import SharedRoutes
from swarm_predict.serving.routes.build import Offer, offered
from swarm_predict.serving.routes.kv_cache_capacity import Room, divided
from swarm_predict.types import BadPlacement, Stage

HARDLY: Final = 0.1  # of its time: a station that routes together keep busy for less delays none of them
FULL: Final = 0.97  # of the time: a station that is busy so much is what limits
SHARED_FULL: Final = 0.93  # the same where several routes visit it: they do not keep step
NEARLY: Final = 0.999  # of the most that is sustained
MAX_ROUTES: Final = 6  # that share something: their flow is found among all vertices


@dataclass(frozen=True, slots=True)
class SharedMachine:
    """A machine of several placements."""

    node: str
    stages: tuple[Stage, ...]  # in each of them
    twice: int  # layers that more than one of them uses; they are there once
    busy: float  # share of the time, all placements together


class Together:
    """Placements side by side, under any arrivals."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        self.offers = tuple(offers)
        for one, other in itertools.combinations(offers, 2):
            if one.placement == other.placement:
                raise BadPlacement(f"{format_placement(one.placement)} is there twice; give it once")
        self._stages: dict[str, list[tuple[int, int, Stage]]] = {}  # by machine: placement, position, stage
        for number, offer in enumerate(offers):
            for k, stage in enumerate(offer.placement):
                self._stages.setdefault(stage.node, []).append((number, k, stage))
        self._load([1.0] * len(offers))
        if self._several():  # the room of a shared machine goes where the requests go
            self._load(self.shares)

    def _several(self) -> dict[str, list[tuple[int, int, Stage]]]:
        return {node: uses for node, uses in self._stages.items() if len(uses) > 1}

    def _load(self, weights: Sequence[float]) -> None:
        self.routes = tuple(
            offered(offer, rooms) for offer, rooms in zip(self.offers, self._rooms(weights), strict=True)
        )
        self.alone = tuple(Loaded(route) for route in self.routes)
        self.parts = [
            (part, SharedRoutes([self.routes[k] for k in part], [self.alone[k] for k in part]) if part[1:] else None)
            for part in self._coupled()
        ]
        mosts = [self.alone[part[0]].most_per_s if shared is None else shared.most_per_s for part, shared in self.parts]
        self.most_per_s = math.fsum(mosts)
        found = [0.0] * len(self.offers)
        for (part, shared), most in zip(self.parts, mosts, strict=True):
            for k, share in zip(part, (1.0,) if shared is None else shared.shares, strict=True):
                found[k] = share * most / self.most_per_s
        self.shares = tuple(found)

    def _rooms(self, weights: Sequence[float]) -> list[list[Room]]:
        """Return the rooms of each placement, machines of several divided. Raises DoesNotFit."""
        rooms = [list(offer.rooms) for offer in self.offers]
        for uses in self._several().values():
            number, k, _ = uses[0]
            held = self.offers[number].passes.held_bytes([stage for _, _, stage in uses], k)
            parts = divided([rooms[n][k] for n, k, _ in uses], held, [weights[n] for n, _, _ in uses])
            for (n, at, _), part in zip(uses, parts, strict=True):
                rooms[n][at] = part
        return rooms

    def _coupled(self) -> list[list[int]]:
        """Return the placements that share a machine or wire which they use, in groups."""
        busy: list[dict[str, float]] = []
        for loaded in self.alone:
            here: dict[str, float] = {}
            for station, part in zip(loaded.route.stations, loaded.busy_at_most(), strict=True):
                here[station.name] = here.get(station.name, 0.0) + float(part)
            busy.append(here)
        groups = [{k} for k in range(len(busy))]
        for a, b in itertools.combinations(range(len(busy)), 2):
            if any(busy[a][name] + busy[b][name] > HARDLY for name in busy[a].keys() & busy[b].keys()):
                one, other = (next(group for group in groups if k in group) for k in (a, b))
                if one is not other:
                    one |= other
                    groups.remove(other)
        if max(len(group) for group in groups) > MAX_ROUTES:
            raise BadPlacement(f"more than {MAX_ROUTES} placements share machines or wires; ask about fewer")
        return [sorted(group) for group in groups]

    def under(self, arrivals_per_s: float) -> tuple[list[Loaded], list[Served]]:
        """Return every placement, with what others leave it, and how it serves its share."""
        found: dict[int, tuple[Loaded, Served]] = {}
        for part, shared in self.parts:
            rate = arrivals_per_s * math.fsum(self.shares[k] for k in part)
            if shared is None:
                found[part[0]] = (self.alone[part[0]], self.alone[part[0]].under(rate))
            else:
                found.update(zip(part, zip(*shared.under(rate), strict=True), strict=True))
        order = range(len(self.alone))
        return [found[k][0] for k in order], [found[k][1] for k in order]

    def limits(self) -> list[str]:
        """Return what keeps each placement from serving more requests."""
        found = [""] * len(self.routes)
        for part, shared in self.parts:
            if shared is None:
                found[part[0]] = limit_of(self.alone[part[0]])
                continue
            loaded, served = shared.under(shared.most_per_s * NEARLY)
            total: dict[str, float] = {}
            for each, seen in zip(loaded, served, strict=True):
                for station, busy in zip(each.route.stations, seen.busy, strict=True):
                    total[station.name] = total.get(station.name, 0.0) + busy
            for k, each in zip(part, loaded, strict=True):
                name = max((station.name for station in each.route.stations), key=lambda name: total[name])
                found[k] = name if total[name] >= SHARED_FULL else limit_of(each)
        return found

    def shared(self, served: Sequence[Served]) -> tuple[SharedMachine, ...]:
        """Return the machines of several placements, as they are used."""
        found = []
        for node, uses in self._several().items():
            layers = [layer for _, _, stage in uses for layer in range(stage.first, stage.last + 1)]
            busy = math.fsum(
                part
                for route, each in zip(self.routes, served, strict=True)
                for station, part in zip(route.stations, each.busy, strict=True)
                if station.name == node
            )
            stages = tuple(stage for _, _, stage in uses)
            found.append(SharedMachine(node, stages, len(layers) - len(set(layers)), min(1.0, busy)))
        return tuple(found)


def limit_of(loaded: Loaded) -> str:
    """Return what keeps a route from serving more requests."""
    names = [station.name for station in loaded.route.stations]
    full = loaded.busy_at_most()
    slowest = int(full.argmax())
    if float(full[slowest]) >= FULL:
        return names[slowest]
    if loaded.most_sequences < loaded.route.most_sequences:
        return "prompts that wait for prompts"
    if loaded.route.limit:
        return f"{loaded.route.limit}'s memory"
    return "the sequences allowed at once"
