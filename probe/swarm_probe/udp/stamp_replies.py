"""Answer members' STAMP requests: `stamp_reflector` decides, this adds time stamps and sends.

An answer's T3 is part of what is signed, so it is taken before the answer leaves; how long that usually takes is known
from the kernel's own stamps of earlier ones.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from swarm_probe.clocks import Clocks
from swarm_probe.owner_limits.traffic_accounting import TrafficAccounting
from swarm_probe.sockets import Target
from swarm_probe.udp.stamp_reflector import Reflector, Refused
from swarm_probe.udp.udp_socket import Arrival, UdpPort
from swarm_protocol.packets import stamp_packet
from swarm_protocol.units import NS_PER_MS

KERNEL_STAMP_ERROR_NS: Final = 100_000  # scheduling between our own clock reading and the wire
USER_STAMP_ERROR_NS: Final = 10_000_000  # a busy machine wakes a process this late
LEAVING_KEPT: Final = 15  # latest answers: soon over a change of what else the machine does
LEAVING_MOST_NS: Final = 5 * NS_PER_MS
MAX_AWAITED: Final = 128  # answers whose departure stamp is awaited; the oldest never got one


class Leaving:
    """How long an answer takes from our look at the clock (T3 is signed: it comes first) until the kernel hands it on.

    T3 is dated ahead by what is usual: signing and the system call are no part of the path, and are 60 to 150 µs of it.
    Within one machine it is the least: there a round trip is shorter than what that varies by, and would come out
    below nothing.
    """

    def __init__(self) -> None:
        self._lately: deque[int] = deque(maxlen=LEAVING_KEPT)
        self.usual_ns = 0  # none known yet, or none to be had: T3 as it was read
        self.least_ns = 0

    def add(self, took_ns: int) -> None:
        if 0 <= took_ns <= LEAVING_MOST_NS:  # anything else: the clock was set, or somebody else had the processor
            self._lately.append(took_ns)
            self.usual_ns = sorted(self._lately)[len(self._lately) // 2]
            self.least_ns = min(self._lately)

    def ahead_ns(self, to: Target) -> int:
        host = str(to.sockaddr[0])
        return self.least_ns if host.startswith("127.") or host == "::1" else self.usual_ns


class StampReplies:
    def __init__(
        self,
        udp: UdpPort,
        reflector: Reflector,
        accounting: TrafficAccounting,
        counts: Counter[str],
        clocks: Clocks,
        may_answer: Callable[[Target], bool],
    ) -> None:
        """`may_answer`: whether this address has shown that it is a member's."""
        self._may_answer = may_answer
        self.reflector = reflector
        self._udp = udp
        self._accounting = accounting
        self._counts = counts
        self._clocks = clocks
        self._leaving = Leaving()
        self._awaited: dict[int, int] = {}  # token, below 0 → wall clock as T3 was taken
        self._token = 0

    def answer(self, arrival: Arrival) -> str | None:
        """Answers a member's request; its node id, None where it was not answered."""
        accepted = self.reflector.accept(arrival.data, self._clocks.mono_ns())
        if isinstance(accepted, Refused):
            self._counts[f"ignored_{accepted.reason}"] += 1
            self._accounting.stranger(arrival.source, len(arrival.data))
            return None
        name = self._accounting.names.get(accepted.peer, "")
        self._accounting.stamp(name, arrival.source, received=len(arrival.data))
        if self._accounting.level() == "spent":
            self._counts["ignored_budget"] += 1
            return None
        if not self._may_answer(arrival.source):
            self._counts["ignored_unproven"] += 1  # whoever it is has never answered from there: it may be made up
            return None
        error = stamp_packet.encode_error(KERNEL_STAMP_ERROR_NS if arrival.kernel else USER_STAMP_ERROR_NS)
        now_ns = self._clocks.wall_ns()
        reply = self.reflector.answer(
            accepted,
            received_ns=min(arrival.wall_ns, now_ns),
            sent_ns=now_ns + self._leaving.ahead_ns(arrival.source),
            ttl=arrival.ttl,
            error=error,
        )
        self._token -= 1
        self._awaited[self._token] = now_ns
        if self._udp.send(reply, arrival.source, token=self._token, ancillary=arrival.reply_with) is None:
            self._counts["stamp_answered"] += 1
            self._accounting.stamp(name, arrival.source, sent=len(reply))
        else:
            self._awaited.pop(self._token, None)
            self._counts["stamp_send_failed"] += 1
        if len(self._awaited) > MAX_AWAITED:
            del self._awaited[next(iter(self._awaited))]
        return accepted.peer

    def departed(self, token: int, wall_ns: int) -> None:
        """The kernel handed this answer on."""
        if (answered_ns := self._awaited.pop(token, None)) is not None:
            self._leaving.add(wall_ns - answered_ns)
