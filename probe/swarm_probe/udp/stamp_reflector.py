"""Decide which STAMP requests to answer, and with what: the stateful reflector (RFC 8762 §4.3). Pure.

Only announced sessions are answered, each by its own key, each request once, and never with more bytes than came. Two
steps, so that T3 is taken after the checking: `accept` says whether to answer, `attestation_worker` makes the bytes.

A replay is known by the sequence number (a window behind the highest, as IPsec has it, RFC 4303 §3.4.3). A sender that
was started again begins at zero with a later clock; that starts the session anew. A sender whose clock was set back
and that starts again is taken for a replay until the session has been silent for a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from swarm_protocol.packets import stamp_packet
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_S

REPLAY_WINDOW: Final = 1024  # packets behind the highest that may still arrive, once each
FORGET_NS: Final = 60 * NS_PER_S  # after this silence any signed packet may begin the session anew
SESSION_PER_S: Final = 60.0  # a member's own test sends at most half of this for long

RefusedReason = Literal[stamp_packet.Reason, "ssid", "replay", "rate"]


@dataclass(frozen=True, slots=True)
class Announced:
    """A session that the collector told this probe to expect."""

    ssid: int
    key: bytes | None  # None: unauthenticated
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    reason: RefusedReason


@dataclass(slots=True)
class _State:
    announced: Announced
    bucket: TokenBucket
    highest: int = -1
    seen: int = 0  # bit k: `highest − k` has come
    newest_ntp: int = 0  # sender's clock
    heard_ns: int | None = None
    answers: int = 0

    def fresh(self, packet: stamp_packet.SenderPacket, now_ns: int) -> bool:
        """Whether this is no replay; remembers it then."""
        silent = self.heard_ns is None or now_ns - self.heard_ns > FORGET_NS
        restarted = packet.seq <= self.highest and packet.sent_ntp > self.newest_ntp
        if silent or restarted:
            self.highest, self.seen, self.answers = -1, 0, 0
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


@dataclass(frozen=True, slots=True)
class Accepted:
    peer: str
    _state: _State
    _packet: stamp_packet.SenderPacket


class Reflector:
    def __init__(self, bucket: TokenBucket) -> None:
        """`bucket`: of all packets that this probe sends, its own requests among them."""
        self._all = bucket
        self._sessions: dict[int, tuple[_State, ...]] = {}  # two members may have been given the same SSID

    def announce(self, sessions: Iterable[Announced], now_ns: int) -> None:
        """From now on these and no others. A session that stays keeps its count."""
        known = {state.announced: state for states in self._sessions.values() for state in states}
        self._sessions = {}
        for session in sessions:
            state = known.get(session) or _State(session, TokenBucket(SESSION_PER_S, SESSION_PER_S))
            self._sessions[session.ssid] = (*self._sessions.get(session.ssid, ()), state)

    def accept(self, data: bytes, now_ns: int) -> Accepted | Refused:
        """`now_ns` is monotonic. Anybody's bytes may come in here."""
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

    def answer(self, accepted: Accepted, *, received_ns: int, sent_ns: int, ttl: int, error: int) -> bytes:
        """The reply to what `accept` took. `received_ns` (T2) and `sent_ns` (T3) are of one wall clock."""
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
        )
        state.answers += 1
        return stamp_packet.encode_reflected(reply, state.announced.key)
