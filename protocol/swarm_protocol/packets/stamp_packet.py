"""Convert STAMP test packets (RFC 8762, session ids and follow-ups of RFC 8972) to bytes and back.

In `swarm_probe.udp.stamp`, `stamp_sender` sends and counts them and `stamp_reflector` answers. No clock and no socket.
A key makes a packet authenticated (112 bytes, HMAC-SHA-256 over the first 96 of them cut to 16), None makes it
unauthenticated (44 bytes). Timestamps stay in NTP format as they are on the wire, because a reflector has to echo a
stranger's exactly; `ntp_from_ns` and `ns_from_ntp` convert, and lose nothing of a nanosecond clock.

An authenticated packet may carry one extension, of 40 bytes in either direction, so that an answer is never longer
than its request: a Follow-Up Telemetry TLV (RFC 8972 §4.7) and the HMAC TLV (§4.8) that authenticates it. T3 is signed,
so it is taken before the answer leaves; the follow-up says when the kernel sent the answer before it. Anything else
that follows the base packet is refused: members send no other extensions.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from swarm_protocol.units import NS_PER_S

OPEN_BYTES: Final = 44  # RFC 8762 §4.2.1, §4.3.1: unauthenticated, either direction
AUTH_BYTES: Final = 112  # RFC 8762 §4.2.2, §4.3.2: authenticated, either direction
EXTENDED_BYTES: Final = 152  # authenticated, with follow-up and HMAC TLVs, either direction
HMAC_BYTES: Final = 16
_BLOCK_BYTES: Final = 64  # of SHA-256
SEQ_LIMIT: Final = 1 << 32

Reason = Literal["length", "hmac", "direction", "error_estimate", "extension"]

_SIGNED_BYTES: Final = AUTH_BYTES - HMAC_BYTES  # RFC 8762 §4.4: "the first six blocks"
# sequence, timestamp, error estimate, SSID
_SENDER_OPEN: Final = struct.Struct("!IQHH28x")
_SENDER_AUTH: Final = struct.Struct("!I12xQHH68x")
# sequence, timestamp, error estimate, SSID, receive timestamp, then of the sender: sequence, timestamp, error, TTL
_REFLECTED_OPEN: Final = struct.Struct("!IQHHQIQH2xB3x")
_REFLECTED_AUTH: Final = struct.Struct("!I12xQHH4xQ8xI12xQH2x4xB15x")
# RFC 8972 §4: flags, type and length of each TLV; of the follow-up then sequence, timestamp, timestamp mode
_FOLLOW_UP: Final = struct.Struct("!BBHIQB3x")
_HMAC_TLV: Final = struct.Struct("!BBH16s")
_FOLLOW_UP_TYPE: Final = 7
_HMAC_TYPE: Final = 8
_TLV_HEADER_BYTES: Final = 4
_UNRECOGNISED: Final = 0x80  # U flag: set by the sender, cleared by a reflector that knows the type
_LOCAL_SOFTWARE: Final = 2  # timestamp mode: RFC 8972 §4.3, "SW local"
_SSID: Final = struct.Struct("!H")
_SSID_AT: Final = {OPEN_BYTES: 14, AUTH_BYTES: 26, EXTENDED_BYTES: 26}
_SENDER_NTP_AT: Final = {OPEN_BYTES: slice(28, 36), AUTH_BYTES: slice(64, 72), EXTENDED_BYTES: slice(64, 72)}
_ZEROS: Final = bytes(8)
_OPEN_SIZES: Final = (OPEN_BYTES,)
_AUTH_SIZES: Final = (AUTH_BYTES, EXTENDED_BYTES)

_NTP_EPOCH_S: Final = 2_208_988_800  # seconds from 1900 to 1970
_ERA_S: Final = 1 << 32
_SCALE_MAX: Final = 63
_Z_BIT: Final = 1 << 14


class StampError(ValueError):
    """These bytes are no STAMP packet of this session; `reason` is one word to count by."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Final = reason


class FollowUp(msgspec.Struct, frozen=True):
    """When an earlier answer of the session was sent, reported in a later one."""

    seq: int  # the reflector's
    sent_ntp: int  # as its kernel sent it; 0: not known, and `seq` means nothing


NO_FOLLOW_UP: Final = FollowUp(0, 0)


class SenderPacket(msgspec.Struct, frozen=True):
    """A packet from the session's sender to its reflector."""

    seq: int
    sent_ntp: int
    error: int  # error estimate as on the wire; see `error_ns`
    ssid: int
    follow_up: bool = False  # requested; authenticated packets only


class ReflectedPacket(msgspec.Struct, frozen=True):
    """A packet back from the reflector: its own sequence and times, and the sender's repeated."""

    seq: int  # counted by the reflector, so that losses of the two directions can be told apart
    sent_ntp: int  # T3
    error: int
    ssid: int
    received_ntp: int  # T2
    sender_seq: int
    sender_ntp: int  # T1, exactly as received
    sender_error: int
    sender_ttl: int  # TTL or hop limit with which the request arrived
    follow_up: FollowUp | None = None  # None: not requested


# ---------------------------------------------------------------- times


def ntp_from_ns(wall_ns: int) -> int:
    """Return UTC nanoseconds since 1970 as a 64-bit NTP timestamp (32.32 seconds since 1900, modulo its era)."""
    seconds, rest_ns = divmod(wall_ns, NS_PER_S)
    fraction = ((rest_ns << 32) + NS_PER_S // 2) // NS_PER_S
    return ((seconds + _NTP_EPOCH_S) % _ERA_S) << 32 | fraction


def ns_from_ntp(ntp: int) -> int:
    """Return the inverse. Seconds with the top bit clear belong to the era that begins in 2036 (RFC 4330 §3)."""
    seconds, fraction = ntp >> 32, ntp & 0xFFFFFFFF
    if seconds < _ERA_S // 2:
        seconds += _ERA_S
    return (seconds - _NTP_EPOCH_S) * NS_PER_S + ((fraction * NS_PER_S + (1 << 31)) >> 32)


def time_ns(timestamp: int, error: int) -> int:
    """Return a timestamp in the format that the packet's error estimate names: NTP, or PTP where its Z bit is set.

    Only differences within one packet mean anything: PTP counts TAI, and the clock may be wrong.
    """
    if error & _Z_BIT:
        return (timestamp >> 32) * NS_PER_S + (timestamp & 0xFFFFFFFF)
    return ns_from_ntp(timestamp)


def encode_error(error_ns: int, *, synchronised: bool = False) -> int:
    """Return an error estimate (RFC 4656 §4.1.2) of at least `error_ns`: Multiplier · 2^(Scale − 32) seconds, NTP
    format."""
    units = max(1, -(-(error_ns << 32) // NS_PER_S))
    scale = max(0, units.bit_length() - 8)
    multiplier = -(-units >> scale)
    if multiplier > 255:  # rounding up carried into a ninth bit
        scale, multiplier = scale + 1, 128
    if scale > _SCALE_MAX:
        scale, multiplier = _SCALE_MAX, 255
    return int(synchronised) << 15 | scale << 8 | multiplier


def error_ns(error: int) -> int:
    """Return an error estimate in nanoseconds. Raises StampError for a zero multiplier (RFC 4656 forbids it)."""
    multiplier = error & 0xFF
    if multiplier == 0:
        raise StampError("error_estimate", "a STAMP error estimate with a zero multiplier")
    return ((multiplier << (error >> 8 & _SCALE_MAX)) * NS_PER_S) >> 32


# ---------------------------------------------------------------- to bytes


def encode_sender(packet: SenderPacket, key: bytes | None) -> bytes:
    layout = _SENDER_OPEN if key is None else _SENDER_AUTH
    data = _sign(layout.pack(packet.seq, packet.sent_ntp, packet.error, packet.ssid), key)
    return _extend(data, _UNRECOGNISED, NO_FOLLOW_UP, key) if packet.follow_up else data


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
    data = _sign(body, key)
    return data if packet.follow_up is None else _extend(data, 0, packet.follow_up, key)


# ---------------------------------------------------------------- from bytes


def peek(data: bytes) -> tuple[int, bool]:
    """Return (SSID, whether it is a reflected packet), before any key is known. Raises StampError.

    A sender leaves the fields zero that a reflector fills with the sender's time. Deciding by them, not by the port,
    keeps two probes with one socket each from answering each other's answers forever.
    """
    size = len(data)
    if size not in _SSID_AT:
        known = f"{OPEN_BYTES}, {AUTH_BYTES} or {EXTENDED_BYTES}"
        raise StampError("length", f"a {size}-byte STAMP packet; members send {known}")
    (ssid,) = _SSID.unpack_from(data, _SSID_AT[size])
    return ssid, data[_SENDER_NTP_AT[size]] != _ZEROS


def decode_sender(data: bytes, key: bytes | None) -> SenderPacket:
    """Decode a sender's packet. Raises StampError for anything that is not signed with `key`."""
    body, follow_up = _check(data, key, reflected=False)
    seq, sent_ntp, error, ssid = (_SENDER_OPEN if key is None else _SENDER_AUTH).unpack(body)
    return SenderPacket(seq, sent_ntp, error, ssid, follow_up is not None)


def decode_reflected(data: bytes, key: bytes | None) -> ReflectedPacket:
    """Decode a reflector's packet. Raises StampError for anything that is not signed with `key`."""
    body, follow_up = _check(data, key, reflected=True)
    layout = _REFLECTED_OPEN if key is None else _REFLECTED_AUTH
    seq, sent_ntp, error, ssid, received_ntp, *of_sender = layout.unpack(body)
    sender_seq, sender_ntp, sender_error, sender_ttl = of_sender
    return ReflectedPacket(
        seq, sent_ntp, error, ssid, received_ntp, sender_seq, sender_ntp, sender_error, sender_ttl, follow_up
    )


@lru_cache(maxsize=1024)
def _keyed(key: bytes) -> tuple[Any, Any]:
    """Return SHA-256 of both of HMAC's padded keys (RFC 2104 §2), made once for each key. A copy of `hmac.HMAC` takes
    twice as long as these two, `hmac.digest` four times: it sets up its algorithm each time."""
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
    return inner, outer


def _mac(key: bytes, body: bytes) -> bytes:
    keyed_inner, keyed_outer = _keyed(key)
    inner, outer = keyed_inner.copy(), keyed_outer.copy()
    inner.update(body)
    outer.update(inner.digest())
    mac: bytes = outer.digest()[:HMAC_BYTES]
    return mac


def _sign(body: bytes, key: bytes | None) -> bytes:
    return body if key is None else body + _mac(key, body)


def _extend(data: bytes, flags: int, follow_up: FollowUp, key: bytes | None) -> bytes:
    """Append the follow-up and its signature, which covers the sequence number too (RFC 8972 §4.8): the extension of
    one packet is not valid in another."""
    if key is None:
        raise ValueError("only an authenticated STAMP packet carries a follow-up")
    mode = _LOCAL_SOFTWARE if follow_up.sent_ntp else 0
    size = _FOLLOW_UP.size - _TLV_HEADER_BYTES
    tlv = _FOLLOW_UP.pack(flags, _FOLLOW_UP_TYPE, size, follow_up.seq, follow_up.sent_ntp, mode)
    return data + tlv + _HMAC_TLV.pack(flags, _HMAC_TYPE, HMAC_BYTES, _mac(key, data[:4] + tlv))


def _check(data: bytes, key: bytes | None, *, reflected: bool) -> tuple[bytes, FollowUp | None]:
    """Return what is signed of the base packet, and the follow-up if there is one."""
    size = len(data)
    expected = _OPEN_SIZES if key is None else _AUTH_SIZES
    if size not in expected:
        raise StampError("length", f"a {size}-byte STAMP packet; this session's have {' or '.join(map(str, expected))}")
    if (data[_SENDER_NTP_AT[size]] != _ZEROS) is not reflected:
        raise StampError(
            "direction",
            "a STAMP reply where a request was expected"
            if not reflected
            else "a STAMP request where a reply was expected",
        )
    if key is None:
        return data, None
    body = data[:_SIGNED_BYTES]
    if not hmac.compare_digest(_mac(key, body), data[_SIGNED_BYTES:AUTH_BYTES]):
        raise StampError("hmac", "a STAMP packet signed with another key")
    return body, _follow_up(data, key, reflected=reflected) if size == EXTENDED_BYTES else None


def _follow_up(data: bytes, key: bytes, *, reflected: bool) -> FollowUp:
    flags, kind, size, seq, sent_ntp, _ = _FOLLOW_UP.unpack_from(data, AUTH_BYTES)
    signed = AUTH_BYTES + _FOLLOW_UP.size
    hmac_flags, hmac_kind, hmac_size, mac = _HMAC_TLV.unpack_from(data, signed)
    layout = (kind, size, hmac_kind, hmac_size)
    if layout != (_FOLLOW_UP_TYPE, _FOLLOW_UP.size - _TLV_HEADER_BYTES, _HMAC_TYPE, HMAC_BYTES):
        raise StampError("extension", "a STAMP packet with another extension than a signed follow-up")
    if not hmac.compare_digest(_mac(key, data[:4] + data[AUTH_BYTES:signed]), mac):
        raise StampError("hmac", "a STAMP extension signed with another key, or for another packet")
    if reflected and flags | hmac_flags:  # not recognised, malformed or altered, as the reflector found it
        raise StampError("extension", "a STAMP extension that the reflector could not use")
    return FollowUp(seq, sent_ntp)
