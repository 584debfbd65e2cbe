"""Remember where signed requests of members came from recently."""

from __future__ import annotations

from typing import Final

from swarm_probe.sockets import Target
from swarm_protocol.units import NS_PER_S

MAX_HEARD: Final = 1_024
RECENT_NS: Final = 180 * NS_PER_S  # an idle swarm's packets are a minute apart


class RecentSources:
    def __init__(self) -> None:
        self._at_ns: dict[Target, int] = {}

    def add(self, source: Target, now_ns: int) -> None:
        self._at_ns.pop(source, None)  # put back at the end: the longest silent is dropped first
        self._at_ns[source] = now_ns
        if len(self._at_ns) > MAX_HEARD:
            del self._at_ns[next(iter(self._at_ns))]

    def has(self, source: Target, now_ns: int) -> bool:
        at_ns = self._at_ns.get(source)
        return at_ns is not None and now_ns - at_ns < RECENT_NS
