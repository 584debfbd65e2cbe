"""Decide which STAMP requests to answer, and make the answers: the stateful reflector (RFC 8762 §4.3). Pure.

Only announced sessions are answered, each by its own key, each request once, and never with more bytes than came. T3
is taken after the checks, so there are steps: `accept` decides whether to answer, `answer` makes the bytes, and
`departed` takes the kernel's time of departure, for the follow-up in the session's next answer (RFC 8972 §4.7).

A replay is detected by the sequence number (a window behind the highest, as in IPsec, RFC 4303 §3.4.3). A sender that
was restarted begins at zero with a later clock; that starts the session again. A restarted sender whose clock was set
back counts as a replay until the session has been silent for a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from swarm_protocol.packets import stamp_packet
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_S

REPLAY_WINDOW: Final = 1024  # packets behind the highest that may still arrive, once each
FORGET_NS: Final = 60 * NS_PER_S  # after this silence any signed packet may begin the session again
SESSION_PER_S: Final = 60.0  # a member's own test sends at most half of this for long

RefusedReason = Literal[stamp_packet.Reason, "ssid", "replay", "rate"]


class Announced(msgspec.Struct, frozen=True):
    """A session that the collector has announced to this probe."""

    ssid: int
    key: bytes | None  # None: unauthenticated
    peer: str = ""


class Refused(msgspec.Struct, frozen=True):
    reason: RefusedReason


class _State(msgspec.Struct):
    announced: Announced
    bucket: TokenBucket
    highest: int = -1
    seen: int = 0  # bit k: `highest − k` has come
    newest_ntp: int = 0  # sender's clock
    heard_ns: int | None = None
    answers: int = 0
    departed: stamp_packet.FollowUp = stamp_packet.NO_FOLLOW_UP  # of the latest answer whose departure is known

    def fresh(self, packet: stamp_packet.SenderPacket, now_ns: int) -> bool:
        """Return whether this is no replay, and remember it."""
        silent = self.heard_ns is None or now_ns - self.heard_ns > FORGET_NS
        restarted = packet.seq <= self.highest and packet.sent_ntp > self.newest_ntp
        if silent or restarted:
            self.highest, self.seen, self.answers, self.departed = -1, 0, 0, stamp_packet.NO_FOLLOW_UP
        elif packet.seq > self.highest and packet.sent_ntp <= self.newest_ntp:
            return False
        if packet.seq > self.highest:
            ahead = packet.seq - self.highest
            self.seen = (self.seen << ahead | 1) & _WINDOW_MASK if ahead < REPLAY_WINDOW else 1
            self.highest = packet.seq
            self.newest_ntp = packet.sent_ntp
        else:
            behind = self.highest - packet.seq
            if behind >= REPLAY_WINDOW or self.seen >> behind & 1:
                return False
            self.seen |= 1 << behind
        self.heard_ns = now_ns
        return True


_WINDOW_MASK: Final = (1 << REPLAY_WINDOW) - 1


class Accepted(msgspec.Struct, frozen=True):
    peer: str
    _state: _State
    _packet: stamp_packet.SenderPacket


class Answer(msgspec.Struct, frozen=True):
    data: bytes
    seq: int
    _state: _State


class Reflector:
    def __init__(self, bucket: TokenBucket) -> None:
        """Create it. `bucket`: of all packets that this probe sends, its own requests among them."""
        self._all = bucket
        self._sessions: dict[int, tuple[_State, ...]] = {}  # two members may have been given the same SSID

    def announce(self, sessions: Iterable[Announced], now_ns: int) -> None:
        """Accept these sessions from now on and no others. A session that stays keeps its count."""
        known = {state.announced: state for states in self._sessions.values() for state in states}
        self._sessions = {}
        for session in sessions:
            state = known.get(session) or _State(session, TokenBucket(SESSION_PER_S, SESSION_PER_S))
            self._sessions[session.ssid] = (*self._sessions.get(session.ssid, ()), state)

    def accept(self, data: bytes, now_ns: int) -> Accepted | Refused:
        """Check a packet of any sender. `now_ns` is monotonic."""
        try:
            ssid, _ = stamp_packet.peek(data)
        except stamp_packet.StampError as error:
            return Refused(error.reason)
        refused: RefusedReason = "ssid"
        for state in self._sessions.get(ssid, ()):
            try:
                packet = stamp_packet.decode_sender(data, state.announced.key)
            except stamp_packet.StampError as error:
                refused = error.reason
                continue
            if not state.fresh(packet, now_ns):
                return Refused("replay")
            if not (state.bucket.take(now_ns) and self._all.take(now_ns)):
                return Refused("rate")
            return Accepted(state.announced.peer, state, packet)
        return Refused(refused)

    def answer(self, accepted: Accepted, *, received_ns: int, sent_ns: int, ttl: int, error: int) -> Answer:
        """Return the reply to what `accept` took. `received_ns` (T2) and `sent_ns` (T3) come from one wall clock."""
        state, packet = accepted._state, accepted._packet
        reply = stamp_packet.ReflectedPacket(
            seq=state.answers % stamp_packet.SEQ_LIMIT,
            sent_ntp=stamp_packet.ntp_from_ns(sent_ns),
            error=error,
            ssid=packet.ssid,
            received_ntp=stamp_packet.ntp_from_ns(received_ns),
            sender_seq=packet.seq,
            sender_ntp=packet.sent_ntp,
            sender_error=packet.error,
            sender_ttl=ttl,
            follow_up=state.departed if packet.follow_up else None,
        )
        state.answers += 1
        return Answer(stamp_packet.encode_reflected(reply, state.announced.key), reply.seq, state)

    def departed(self, answer: Answer, sent_ns: int) -> None:
        """Note when the kernel sent this answer, by the wall clock of its T3."""
        answer._state.departed = stamp_packet.FollowUp(answer.seq, stamp_packet.ntp_from_ns(sent_ns))
