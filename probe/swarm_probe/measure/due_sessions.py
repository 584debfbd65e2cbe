"""Order the sessions of round trips by when their next packet is due. Pure: the caller passes the time in.

Rescheduling a session leaves its old entry in the heap; an entry whose time is not its session's is skipped.
"""

from __future__ import annotations

import heapq
from typing import Final

from swarm_probe.udp.rtt_session import RttSession
from swarm_protocol.units import NS_PER_MS

GROUP_SHARE: Final = 8  # of a session's interval: how much later a packet may be sent, to go with others
GROUP_MOST_NS: Final = 500 * NS_PER_MS
_GROUP_LEAST_NS: Final = 60 * NS_PER_MS
_MIX: Final = 0xBF58476D1CE4E5B9  # of splitmix64
_MASK: Final = (1 << 64) - 1


def grouped_ns(due_ns: int, interval_ns: int) -> int:
    """Return when a packet due then is sent: at the next of the moments at which a probe sends the packets of sessions
    with about this interval, so that it wakes up once for several. The moments vary, so as not to lock onto periodic
    traffic: one is in the first half of each step of at most GROUP_SHARE of the interval."""
    step_ns = GROUP_MOST_NS
    while step_ns * GROUP_SHARE > interval_ns:
        step_ns //= 2
    if step_ns < _GROUP_LEAST_NS:
        return due_ns
    number = due_ns // step_ns
    at_ns = _moment_ns(number, step_ns)
    return at_ns if at_ns >= due_ns else _moment_ns(number + 1, step_ns)


def _moment_ns(number: int, step_ns: int) -> int:
    mixed = (number + 1) * _MIX & _MASK
    mixed = (mixed ^ mixed >> 31) * _MIX & _MASK
    return number * step_ns + ((mixed >> 32) * step_ns >> 33)


class DueSessions:
    def __init__(self) -> None:
        self._heap: list[tuple[int, int, RttSession]] = []
        self._pushed = 0
        self.grouped = False  # packets that are due at about the same time are sent together

    def push(self, rtt: RttSession) -> None:
        """Add a session, or move it to its new time; one that has ended is left out."""
        if not rtt.ended:
            due_ns = rtt.session.next_due_ns()
            rtt.due_ns = grouped_ns(due_ns, rtt.session.interval_ns) if self.grouped else due_ns
            self._pushed += 1  # breaks ties
            heapq.heappush(self._heap, (rtt.due_ns, self._pushed, rtt))

    def first_ns(self) -> int | None:
        """Return the earliest time at which a packet may be due; None: there is no session."""
        return self._heap[0][0] if self._heap else None

    def pop(self, now_ns: int) -> RttSession | None:
        """Remove and return the first session that is due by now; None: none is."""
        while self._heap and self._heap[0][0] <= now_ns:
            due_ns, _, rtt = heapq.heappop(self._heap)
            if not rtt.ended and due_ns == rtt.due_ns:
                return rtt
        return None
