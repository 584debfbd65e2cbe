"""Order the sessions of round trips by the time of their next packet. Pure: the caller passes the time in.

A packet may leave a little later than it is due, so that one wake-up sends several: `first_ns` is the latest moment for
the first of them, and `pop` returns all that are due by then. Each session's own times vary (`stamp_sender`), so these
moments lock onto no periodic traffic. Rescheduling a session leaves its old entry in the heap; an entry whose time is
not its session's is skipped.
"""

from __future__ import annotations

import heapq
from typing import Final

from swarm_probe.udp.rtt_session import RttSession
from swarm_protocol.units import NS_PER_MS

SLACK_SHARE: Final = 8  # of a session's interval: how much later a packet may be sent, to go with others
MAX_SLACK_NS: Final = 250 * NS_PER_MS
MIN_SLACK_NS: Final = 60 * NS_PER_MS  # with less, hardly two packets would go together


def slack_ns(interval_ns: int) -> int:
    """Return how much later than due a packet of a session with this interval may be sent."""
    share_ns = interval_ns // SLACK_SHARE
    return min(share_ns, MAX_SLACK_NS) if share_ns >= MIN_SLACK_NS else 0


class DueSessions:
    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, RttSession]] = []  # latest moment, number of the entry, due time, session
        self._pushed = 0
        self.grouped = False  # packets that are due at about the same time are sent together

    def push(self, rtt: RttSession) -> None:
        """Add a session, or move it to its new time; one that has ended is left out."""
        if not rtt.ended:
            rtt.due_ns = rtt.session.next_due_ns()
            latest_ns = rtt.due_ns + slack_ns(rtt.session.interval_ns) if self.grouped else rtt.due_ns
            self._pushed += 1  # breaks ties
            heapq.heappush(self._heap, (latest_ns, self._pushed, rtt.due_ns, rtt))

    def first_ns(self) -> int | None:
        """Return the latest moment at which something has to be sent; None: there is no session."""
        return self._heap[0][0] if self._heap else None

    def pop(self, now_ns: int) -> RttSession | None:
        """Remove and return a session that is due by now; None: none is, or only some that may wait for a session with
        a shorter interval."""
        while self._heap and self._heap[0][2] <= now_ns:
            _, _, due_ns, rtt = heapq.heappop(self._heap)
            if not rtt.ended and due_ns == rtt.due_ns:
                return rtt
        return None
