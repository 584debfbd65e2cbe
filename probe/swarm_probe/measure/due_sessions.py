"""Order the sessions of round trips by when their next packet is due. Pure: the caller passes the time in.

Rescheduling a session leaves its old entry in the heap; an entry whose time is not its session's is skipped.
"""

from __future__ import annotations

import heapq

from swarm_probe.udp.rtt_session import RttSession


class DueSessions:
    def __init__(self) -> None:
        self._heap: list[tuple[int, int, RttSession]] = []
        self._pushed = 0

    def push(self, rtt: RttSession) -> None:
        """Add a session, or move it to its new time; one that has ended is left out."""
        if not rtt.ended:
            rtt.due_ns = rtt.session.next_due_ns()
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
