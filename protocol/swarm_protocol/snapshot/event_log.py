"""Keep the newest events of a swarm, ordered by time, under the present names of their nodes. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import Final

import msgspec

from swarm_protocol.snapshot.swarm import Event

MAX_EVENTS: Final = 200


class EventLog:
    def __init__(self, name_of: Callable[[str], str | None]) -> None:
        """Create a log. `name_of`: a node's present name by its id; None: there is no such node."""
        self._name_of = name_of
        self._entries: list[tuple[int, int, str | None, Event]] = []  # time, tie-breaker, node id, event
        self._count = 0
        self._shown: tuple[Event, ...] | None = None  # None: changed since it was last requested

    def add(self, at_ns: int, node_id: str | None, kind: str, detail: str) -> None:
        """Add an event; `node_id` None: of the swarm as a whole. The newest MAX_EVENTS are kept."""
        name = (self._name_of(node_id) if node_id is not None else None) or ""
        self._count += 1
        entry = (at_ns, self._count, node_id, Event(at_ns=at_ns, node=name, kind=kind, detail=detail))
        bisect.insort(self._entries, entry, key=lambda known: known[:2])
        del self._entries[:-MAX_EVENTS]
        self._shown = None

    def renamed(self) -> None:
        """Note that a node has another name now."""
        self._shown = None

    def shown(self) -> tuple[Event, ...]:
        if self._shown is None:
            self._shown = tuple(self._named(node_id, event) for _, _, node_id, event in self._entries)
        return self._shown

    def _named(self, node_id: str | None, event: Event) -> Event:
        name = self._name_of(node_id) if node_id is not None else None
        return event if name is None or name == event.node else msgspec.structs.replace(event, node=name)
