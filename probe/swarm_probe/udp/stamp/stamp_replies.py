"""Answer members' STAMP requests: `stamp_reflector` decides, this module adds time stamps and sends.

An answer's T3 is part of what is signed, so it is taken before the answer leaves. The kernel then says when it left,
and the next answer of the session carries that as a follow-up, where the sender requests it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from swarm_probe.clocks import Clocks
from swarm_probe.owner_limits.traffic_accounting import TrafficAccounting
from swarm_probe.sockets import Target
from swarm_probe.udp.stamp.stamp_reflector import Accepted, Answer, Reflector, Refused
from swarm_probe.udp.udp_socket import Arrival, UdpPort
from swarm_protocol.packets import stamp_packet
from swarm_protocol.units import NS_PER_MS

KERNEL_STAMP_ERROR_NS: Final = 100_000  # scheduling between our own clock reading and the wire
USER_STAMP_ERROR_NS: Final = 10_000_000  # a busy machine wakes a process this late
_KERNEL_ERROR: Final = stamp_packet.encode_error(KERNEL_STAMP_ERROR_NS)
_USER_ERROR: Final = stamp_packet.encode_error(USER_STAMP_ERROR_NS)
MIN_SEND_DELAYS: Final = 16  # answers before the least of them is used
MAX_SEND_DELAY_NS: Final = 5 * NS_PER_MS
MAX_AWAITED: Final = 128  # answers whose departure stamp is awaited; the oldest never got one


class SendDelay:
    """The least time from our clock reading (T3 is signed: it comes first) until the kernel sends an answer.

    T3 is dated ahead by it, so that signing and the system call do not count as delay of the path: a
    sender that requests no follow-up, or has lost one, then sees round trips that are slightly too long, and none that
    is shorter than the path.
    """

    def __init__(self) -> None:
        self._known = 0
        self._least_ns = MAX_SEND_DELAY_NS

    def add(self, took_ns: int) -> None:
        if 0 <= took_ns <= MAX_SEND_DELAY_NS:  # otherwise the clock was set, or another program had the processor
            self._known += 1
            self._least_ns = min(self._least_ns, took_ns)

    @property
    def least_ns(self) -> int:
        """Return 0 until enough is known: the least of a few is more than that of many."""
        return self._least_ns if self._known >= MIN_SEND_DELAYS else 0


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
        """Create it. `may_answer`: whether this address has shown that it is a member's."""
        self._may_answer = may_answer
        self.reflector = reflector
        self._udp = udp
        self._accounting = accounting
        self._counts = counts
        self._clocks = clocks
        self._leaving = SendDelay()
        # token, below 0 → answer, wall clock as T3 was taken, and what the steady clock showed more than it
        self._awaited: dict[int, tuple[Answer, int, int]] = {}
        self._token = 0

    def answer(self, arrival: Arrival) -> str | None:
        """Answer a member's request; return its node id, None if it was not answered."""
        accepted = self.reflector.accept(arrival.data, self._clocks.mono_ns())
        if isinstance(accepted, Refused):
            self._counts[f"ignored_{accepted.reason}"] += 1
            self._accounting.stranger(arrival.source, len(arrival.data))
            return None
        sent = self._send(accepted, arrival)
        name = self._accounting.names.get(accepted.peer, "")
        self._accounting.stamp(name, arrival.source, sent=sent or 0, received=len(arrival.data))
        return None if sent is None else accepted.peer

    def _send(self, accepted: Accepted, arrival: Arrival) -> int | None:
        """Answer; return how many bytes were sent, None if the request is left without an answer."""
        if self._accounting.level() == "spent":
            self._counts["ignored_budget"] += 1
            return None
        if not self._may_answer(arrival.source):
            self._counts["ignored_unproven"] += 1  # the sender has never answered from there: the address may be forged
            return None
        now_ns = self._clocks.wall_ns()
        set_by_ns = self._clocks.steady_ns(now_ns) - now_ns
        reply = self.reflector.answer(
            accepted,
            received_ns=min(arrival.wall_ns, now_ns) + set_by_ns,
            sent_ns=now_ns + self._leaving.least_ns + set_by_ns,
            ttl=arrival.ttl,
            error=_KERNEL_ERROR if arrival.kernel else _USER_ERROR,
        )
        self._token -= 1
        self._awaited[self._token] = reply, now_ns, set_by_ns
        sent = len(reply.data)
        if self._udp.send(reply.data, arrival.source, token=self._token, ancillary=arrival.reply_with) is None:
            self._counts["stamp_answered"] += 1
        else:
            self._awaited.pop(self._token, None)
            self._counts["stamp_send_failed"] += 1
            sent = 0
        if len(self._awaited) > MAX_AWAITED:
            del self._awaited[next(iter(self._awaited))]
        return sent

    def departed(self, token: int, wall_ns: int) -> None:
        """Note when the kernel sent this answer."""
        awaited = self._awaited.pop(token, None)
        if awaited is not None:
            answer, answered_ns, set_by_ns = awaited
            self._leaving.add(wall_ns - answered_ns)
            self.reflector.departed(answer, wall_ns + set_by_ns)
