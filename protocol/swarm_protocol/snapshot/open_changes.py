"""Which changes for the worse have not ended, by the events that tell of them. Pure.

An event says in words whose change it is: the node is its own, a link's peer or "all peers" stands after "to", and a
figure of no link begins its detail. `swarm_collector.changes.detector` writes them so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from swarm_protocol.snapshot.swarm import Event

_TARGET = re.compile(r" (?:to|on) (?P<all>all|\d+ of)?(?: ?\d+)?(?: (?:peers|links))?(?P<peer>[^ ,;]*)")
_GONE = frozenset(("left", "lost", "joined", "back"))
RESTARTED = "the collector was restarted"


def change_key(detail: str) -> str:
    """What of its node has changed: two events with one key speak of the same change."""
    if "throttled" in detail:
        return "throttled"
    target = _TARGET.search(detail.split(";", 1)[0])
    if target is not None:
        return "peers" if target["all"] else target["peer"]
    figure = re.split(r" *[\d?:]", detail, maxsplit=1)[0]
    return figure.strip()


def open_changes(events: Iterable[Event]) -> tuple[Event, ...]:
    """The newest event of each change for the worse that has not ended, oldest first. `events` in the order of time.
    A node that has left, or comes anew, begins anew."""
    found: dict[tuple[str, str], Event] = {}
    for event in events:
        if event.kind == "degraded":
            key = (event.node, change_key(event.detail))
            found.pop(key, None)
            found[key] = event
        elif event.kind in ("recovered", "settled"):
            if event.detail.startswith(RESTARTED):
                found = {key: known for key, known in found.items() if key[0] != event.node}
            else:
                found.pop((event.node, change_key(event.detail)), None)
        elif event.kind in _GONE and event.node:
            found = {key: known for key, known in found.items() if event.node not in key}
    return tuple(found.values())
