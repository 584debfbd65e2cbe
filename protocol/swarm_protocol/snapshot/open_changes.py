"""Find which changes for the worse have not ended, from the events that report them. Pure.

An event says in words what changed: the node is its own, a link's peer or "all peers" follows "to", and a figure
without a link begins its detail. `swarm_collector.changes.detector` writes them so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from swarm_protocol.snapshot.swarm import Event

_TARGET = re.compile(r" (?:to|on) (?P<all>all|\d+ of)?(?: ?\d+)?(?: (?:peers|links))?(?P<peer>[^ ,;]*)")
_GONE = frozenset(("left", "lost", "joined", "back"))
RESTARTED = "the collector was restarted"


def change_key(detail: str) -> str:
    """Return the subject of a change within its node: two events with one key are about the same change."""
    if "throttled" in detail:
        return "throttled"
    target = _TARGET.search(detail.split(";", 1)[0])
    if target is not None:
        return "peers" if target["all"] else target["peer"]
    figure = re.split(r" *[\d?:]", detail, maxsplit=1)[0]
    return figure.strip()


def with_peer(detail: str, name_of: Callable[[str], str]) -> str:
    """Return the detail of a change with the name that `name_of` returns for its link's peer, if it has one."""
    target = _TARGET.search(detail.split(";", 1)[0])
    if target is None or target["all"] or not target["peer"]:
        return detail
    return detail[: target.start("peer")] + name_of(target["peer"]) + detail[target.end("peer") :]


def open_changes(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return the newest event of each change for the worse that has not ended, oldest first. `events` ordered by time.
    A node that has left, or joins again, starts without changes."""
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
