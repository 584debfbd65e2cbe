"""STAMP test packets: RFC 8762 with the session ids of RFC 8972, to bytes and back.

`swarm_probe.udp.stamp_sender` sends and counts them, `swarm_probe.udp.stamp_reflector` answers. No clock and no socket.
A key makes a packet authenticated (112 bytes, HMAC-SHA-256 over the first 96 of them cut to 16), None makes it
unauthenticated (44 bytes). Timestamps stay in NTP format as they are on the wire, because a reflector has to echo a
stranger's exactly; `ntp_from_ns` and `ns_from_ntp` convert, and lose nothing of a nanosecond clock.

Packets with extensions (TLVs) are refused: members send none, and an answer must never be longer than its request.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from swarm_protocol.units import NS_PER_S

OPEN_BYTES: Final = 44  # RFC 8762 §4.2.1, §4.3.1: unauthenticated, either direction
AUTH_BYTES: Final = 112  # RFC 8762 §4.2.2, §4.3.2: authenticated, either direction
HMAC_BYTES: Final = 16
SEQ_LIMIT: Final = 1 << 32

Reason = Literal["length", "hmac", "direction", "error_estimate"]

_SIGNED_BYTES: Final = AUTH_BYTES - HMAC_BYTES  # RFC 8762 §4.4: "the first six blocks"
# sequence, timestamp, error estimate, SSID
_SENDER_OPEN: Final = struct.Struct("!IQHH28x")
_SENDER_AUTH: Final = struct.Struct("!I12xQHH68x")
# sequence, timestamp, error estimate, SSID, receive timestamp, then of the sender: sequence, timestamp, error, TTL
_REFLECTED_OPEN: Final = struct.Struct("!IQHHQIQH2xB3x")
_REFLECTED_AUTH: Final = struct.Struct("!I12xQHH4xQ8xI12xQH2x4xB15x")
_SSID: Final = struct.Struct("!H")
_SSID_AT: Final = {OPEN_BYTES: 14, AUTH_BYTES: 26}
_SENDER_NTP_AT: Final = {OPEN_BYTES: slice(28, 36), AUTH_BYTES: slice(64, 72)}
_ZEROS: Final = bytes(8)

_NTP_EPOCH_S: Final = 2_208_988_800  # seconds from 1900 to 1970
_ERA_S: Final = 1 << 32
_SCALE_MAX: Final = 63
_Z_BIT: Final = 1 << 14


class StampError(ValueError):
    """These bytes are no STAMP packet of this session; `reason` is one word to count by."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Final = reason


@dataclass(frozen=True, slots=True)
class SenderPacket:
    """From the session's sender to its reflector."""

    seq: int
    sent_ntp: int
    error: int  # error estimate as on the wire; see `error_ns`
    ssid: int


@dataclass(frozen=True, slots=True)
class ReflectedPacket:
    """From the reflector back: its own sequence and times, and the sender's repeated."""

    seq: int  # counted by the reflector, so that losses of the two directions can be told apart
    sent_ntp: int  # T3
    error: int
    ssid: int
    received_ntp: int  # T2
    sender_seq: int
    sender_ntp: int  # T1, exactly as it came
    sender_error: int
    sender_ttl: int  # TTL or hop limit with which the request arrived


# ---------------------------------------------------------------- times


def ntp_from_ns(wall_ns: int) -> int:
    """UTC nanoseconds since 1970 as a 64-bit NTP timestamp (32.32 seconds since 1900, modulo its era)."""
    seconds, rest_ns = divmod(wall_ns, NS_PER_S)
    fraction = ((rest_ns << 32) + NS_PER_S // 2) // NS_PER_S
    return ((seconds + _NTP_EPOCH_S) % _ERA_S) << 32 | fraction


def ns_from_ntp(ntp: int) -> int:
    """The inverse. Seconds with the top bit clear are of the era that begins in 2036 (RFC 4330 §3)."""
    seconds, fraction = ntp >> 32, ntp & 0xFFFFFFFF
    if seconds < _ERA_S // 2:
        seconds += _ERA_S
    return (seconds - _NTP_EPOCH_S) * NS_PER_S + ((fraction * NS_PER_S + (1 << 31)) >> 32)


def time_ns(timestamp: int, error: int) -> int:
    """A timestamp in the format that the packet's error estimate names: NTP, or PTP where its Z bit is set.

    Only differences within one packet mean anything: PTP counts TAI, and nobody says that the clock is right.
    """
    if error & _Z_BIT:
        return (timestamp >> 32) * NS_PER_S + (timestamp & 0xFFFFFFFF)
    return ns_from_ntp(timestamp)


def encode_error(error_ns: int, *, synchronised: bool = False) -> int:
    """An error estimate (RFC 4656 §4.1.2) of at least `error_ns`: Multiplier · 2^(Scale − 32) seconds, NTP format."""
    units = max(1, -(-(error_ns << 32) // NS_PER_S))
    scale = max(0, units.bit_length() - 8)
    multiplier = -(-units >> scale)
    if multiplier > 255:  # rounding up carried into a ninth bit
        scale, multiplier = scale + 1, 128
    if scale > _SCALE_MAX:
        scale, multiplier = _SCALE_MAX, 255
    return int(synchronised) << 15 | scale << 8 | multiplier


def error_ns(error: int) -> int:
    """What an error estimate says, in nanoseconds. Raises StampError for a zero multiplier (RFC 4656 forbids it)."""
    multiplier = error & 0xFF
    if multiplier == 0:
        raise StampError("error_estimate", "a STAMP error estimate with a zero multiplier")
    return ((multiplier << (error >> 8 & _SCALE_MAX)) * NS_PER_S) >> 32


# ---------------------------------------------------------------- to bytes


def encode_sender(packet: SenderPacket, key: bytes | None) -> bytes:
    layout = _SENDER_OPEN if key is None else _SENDER_AUTH
    return _sign(layout.pack(packet.seq, packet.sent_ntp, packet.error, packet.ssid), key)


def encode_reflected(packet: ReflectedPacket, key: bytes | None) -> bytes:
    layout = _REFLECTED_OPEN if key is None else _REFLECTED_AUTH
    body = layout.pack(
        packet.seq,
        packet.sent_ntp,
        packet.error,
        packet.ssid,
        packet.received_ntp,
        packet.sender_seq,
        packet.sender_ntp,
        packet.sender_error,
        packet.sender_ttl,
    )
    return _sign(body, key)


# ---------------------------------------------------------------- from bytes


def peek(data: bytes) -> tuple[int, bool]:
    """(SSID, whether it is a reflected packet), before any key is known. Raises StampError.

    A sender leaves the fields zero that a reflector fills with the sender's time. Going by them, not by the port, is
    what keeps two probes on one socket each from answering each other's answers for ever.
    """
    size = len(data)
    if size not in _SSID_AT:
        raise StampError("length", f"a {size}-byte STAMP packet; RFC 8762 has {OPEN_BYTES} or {AUTH_BYTES}")
    (ssid,) = _SSID.unpack_from(data, _SSID_AT[size])
    return ssid, data[_SENDER_NTP_AT[size]] != _ZEROS


def decode_sender(data: bytes, key: bytes | None) -> SenderPacket:
    """Raises StampError for anything that is not a sender's packet signed with `key`."""
    body = _check(data, key, reflected=False)
    return SenderPacket(*(_SENDER_OPEN if key is None else _SENDER_AUTH).unpack(body))


def decode_reflected(data: bytes, key: bytes | None) -> ReflectedPacket:
    """Raises StampError for anything that is not a reflector's packet signed with `key`."""
    body = _check(data, key, reflected=True)
    return ReflectedPacket(*(_REFLECTED_OPEN if key is None else _REFLECTED_AUTH).unpack(body))


@lru_cache(maxsize=1024)
def _keyed(key: bytes) -> hmac.HMAC:
    """Begun once a key: `hmac.digest` sets up its algorithm each time, 80 µs in a process that mostly sleeps."""
    return hmac.new(key, digestmod="sha256")


def _mac(key: bytes, body: bytes) -> bytes:
    mac = _keyed(key).copy()
    mac.update(body)
    return mac.digest()[:HMAC_BYTES]


def _sign(body: bytes, key: bytes | None) -> bytes:
    return body if key is None else body + _mac(key, body)


def _check(data: bytes, key: bytes | None, *, reflected: bool) -> bytes:
    expected = OPEN_BYTES if key is None else AUTH_BYTES
    if len(data) != expected:
        raise StampError("length", f"a {len(data)}-byte STAMP packet; this session's have {expected}")
    if peek(data)[1] is not reflected:
        raise StampError(
            "direction",
            "a STAMP reply where a request was expected"
            if not reflected
            else "a STAMP request where a reply was expected",
        )
    if key is None:
        return data
    body = data[:_SIGNED_BYTES]
    if not hmac.compare_digest(_mac(key, body), data[_SIGNED_BYTES:]):
        raise StampError("hmac", "a STAMP packet signed with another key")
    return body
