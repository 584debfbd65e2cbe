"""Keep the newest events of a swarm, ordered by time, under the present names of their nodes. Pure.

An event's detail names the peer of a link as it was called then. Events of kind `name_changed` say who had which name
until when.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from swarm_protocol.snapshot.open_changes import with_peer
from swarm_protocol.snapshot.swarm import Event

MAX_EVENTS: Final = 200
_RENAMED: Final = "name_changed"
_WAS: Final = "was "  # how its detail begins, before the old name


def _before(node_id: str | None, event: Event, had: dict[str, str]) -> dict[str, str]:
    """Return the former names (name → node id) before the event, from those after it."""
    if node_id is None or event.kind != _RENAMED or not event.detail.startswith(_WAS):
        return had
    others = {name: owner for name, owner in had.items() if owner != node_id}
    return others | {event.detail.removeprefix(_WAS): node_id}


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
            had: dict[str, str] = {}
            events = []
            for _, _, node_id, event in reversed(self._entries):
                events.append(self._named(node_id, event, had))
                had = _before(node_id, event, had)
            self._shown = tuple(reversed(events))
        return self._shown

    def former_names(self, at_ns: int) -> dict[str, str]:
        """Return the names of then that nodes no longer have, each with its node's id."""
        had: dict[str, str] = {}
        for event_ns, _, node_id, event in reversed(self._entries):
            if event_ns < at_ns:
                break
            had = _before(node_id, event, had)
        return had

    def _named(self, node_id: str | None, event: Event, had: Mapping[str, str]) -> Event:
        name = self._name_of(node_id) if node_id is not None else None
        if name is not None and name != event.node:
            event = msgspec.structs.replace(event, node=name)
        if had and (detail := with_peer(event.detail, lambda peer: self._present(peer, had))) != event.detail:
            event = msgspec.structs.replace(event, detail=detail)
        return event

    def _present(self, peer: str, had: Mapping[str, str]) -> str:
        node_id = had.get(peer)
        return (self._name_of(node_id) if node_id is not None else None) or peer
