"""Convert STUN Binding messages (RFC 8489) to bytes and back: which address a datagram came from. No socket.

A node learns its mapped address from it; `swarm_probe.udp.nat_discovery` queries two ports and concludes which kind of
NAT is in between. An indication (RFC 8445 §11) keeps a NAT's mapping alive and needs no answer.

Only what a Binding needs is here: no credentials, no fallback to RFC 3489. Unknown attributes that must be understood
are listed (§6.3.1). Our own requests carry padding, so that no answer is longer than its request. The bare requests of
other programs (20 bytes) cannot be answered in 20 bytes: a server answers few of them.
"""

from __future__ import annotations

import binascii
import ipaddress
import struct
from typing import Final, Literal

import msgspec

COOKIE: Final = 0x2112A442  # §5
HEADER_BYTES: Final = 20
ID_BYTES: Final = 12
MAX_BYTES: Final = 548  # longest request that is parsed: what an IPv4 host must take unfragmented (§6.1)

_HEADER: Final = struct.Struct("!HHI12s")
_ATTRIBUTE: Final = struct.Struct("!HH")
_FINGERPRINT: Final = struct.Struct("!HHI")
_FINGERPRINT_XOR: Final = 0x5354554E  # §14.7
_BINDING: Final = 0x0001
_CLASSES: Final = {0x0000: "request", 0x0010: "indication", 0x0100: "success", 0x0110: "error"}
_CLASS_BITS: Final = {name: bits for bits, name in _CLASSES.items()}
_CLASS_MASK: Final = 0x0110

MAPPED_ADDRESS: Final = 0x0001
ERROR_CODE: Final = 0x0009
UNKNOWN_ATTRIBUTES: Final = 0x000A
XOR_MAPPED_ADDRESS: Final = 0x0020
PADDING: Final = 0x0026  # RFC 5780 §7.6
FINGERPRINT: Final = 0x8028
# may be ignored though their numbers are in the range that must be understood: they change no answer here
_KNOWN: Final = frozenset({MAPPED_ADDRESS, 0x0006, 0x0008, ERROR_CODE, UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS, PADDING})
_OPTIONAL_FROM: Final = 0x8000
_UNKNOWN_CODE: Final = 420
_IPV4, _IPV6 = 1, 2

Class = Literal["request", "indication", "success", "error"]
IP = ipaddress.IPv4Address | ipaddress.IPv6Address
# header, XOR-MAPPED-ADDRESS of either family, FINGERPRINT
_ANSWER_BYTES: Final = {4: HEADER_BYTES + 12 + 8, 6: HEADER_BYTES + 24 + 8}


class StunError(ValueError):
    """These bytes are no STUN Binding message; one line that says why."""


class Endpoint(msgspec.Struct, frozen=True):
    """An address and a port as the other side saw them."""

    host: str
    port: int


class Message(msgspec.Struct, frozen=True):
    kind: Class
    transaction: bytes
    mapped: Endpoint | None = None  # of a success
    unknown: tuple[int, ...] = ()  # attributes that must be understood and are not
    code: int = 0  # of an error; 0: none


def is_stun(data: bytes) -> bool:
    """Return whether this is STUN and not another protocol on the same port (RFC 9443): two zero bits and the
    cookie."""
    return len(data) >= HEADER_BYTES and data[0] & 0xC0 == 0 and data[4:8] == b"\x21\x12\xa4\x42"


# ---------------------------------------------------------------- to bytes


def encode_request(transaction: bytes) -> bytes:
    """Return a request as long as the longest answer (an IPv6 address with FINGERPRINT)."""
    padding = _ANSWER_BYTES[6] - HEADER_BYTES - 8 - _ATTRIBUTE.size
    return _message("request", transaction, _attribute(PADDING, bytes(padding)), fingerprint=True)


def encode_indication(transaction: bytes) -> bytes:
    return _message("indication", transaction, b"", fingerprint=False)


def encode_success(transaction: bytes, seen: Endpoint, *, fingerprint: bool = True) -> bytes:
    address = _bare(seen.host)
    family = _IPV4 if address.version == 4 else _IPV6
    value = struct.pack("!BBH", 0, family, seen.port ^ COOKIE >> 16) + _masked(address.packed, transaction)
    return _message("success", transaction, _attribute(XOR_MAPPED_ADDRESS, value), fingerprint=fingerprint)


def answer(data: bytes, seen: Endpoint) -> bytes | None:
    """Return a server's answer to these bytes that came from `seen`; None: they are no request.

    It is longer than `data` only where that has no room for an address: 32 bytes (44 with IPv6) for 20.
    """
    if len(data) > MAX_BYTES:
        return None
    try:
        request = decode(data)
    except StunError:
        return None
    if request.kind != "request":
        return None
    if request.unknown:
        made = _refusal(request)
        return made if len(made) <= len(data) else None
    whole = encode_success(request.transaction, seen)
    if len(whole) <= len(data):
        return whole
    return encode_success(request.transaction, seen, fingerprint=False)


def _refusal(request: Message) -> bytes:
    """Return error 420 with the attributes that were not understood (§6.3.1)."""
    code = struct.pack("!HBB", 0, _UNKNOWN_CODE // 100, _UNKNOWN_CODE % 100)
    listed = b"".join(struct.pack("!H", kind) for kind in request.unknown)
    body = _attribute(ERROR_CODE, code) + _attribute(UNKNOWN_ATTRIBUTES, listed)
    return _message("error", request.transaction, body, fingerprint=False)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(kind, len(value)) + value + bytes(-len(value) % 4)


def _message(kind: Class, transaction: bytes, body: bytes, *, fingerprint: bool) -> bytes:
    if len(transaction) != ID_BYTES:
        raise ValueError(f"a transaction id of {len(transaction)} bytes; RFC 8489 has {ID_BYTES}")
    size = len(body) + (_FINGERPRINT.size if fingerprint else 0)
    made = _HEADER.pack(_BINDING | _CLASS_BITS[kind], size, COOKIE, transaction) + body
    return made + _FINGERPRINT.pack(FINGERPRINT, 4, _checksum(made)) if fingerprint else made


def _checksum(data: bytes) -> int:
    return binascii.crc32(data) ^ _FINGERPRINT_XOR


def _masked(packed: bytes, transaction: bytes) -> bytes:
    mask = COOKIE.to_bytes(4, "big") + transaction
    return bytes(a ^ b for a, b in zip(packed, mask, strict=False))


def _bare(host: str) -> IP:
    """Return the address without its zone; v4-mapped ones as IPv4."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


# ---------------------------------------------------------------- from bytes


def decode(data: bytes) -> Message:
    """Decode. Raises StunError for anything but a whole Binding message, with a right FINGERPRINT if it has one."""
    if not is_stun(data):
        raise StunError(f"{len(data)} bytes without STUN's cookie")
    kind_bits, size, _, transaction = _HEADER.unpack_from(data)
    if kind_bits & ~_CLASS_MASK != _BINDING:
        raise StunError(f"a STUN method of {kind_bits & ~_CLASS_MASK:#06x}; only Binding is known")
    if size % 4 or HEADER_BYTES + size != len(data):
        raise StunError(f"a STUN message of {len(data)} bytes that says {HEADER_BYTES + size}")
    kind: Class = _CLASSES[kind_bits & _CLASS_MASK]  # type: ignore[assignment]
    mapped: Endpoint | None = None
    plain: Endpoint | None = None
    unknown: list[int] = []
    code, at = 0, HEADER_BYTES
    while at < len(data):
        if at + _ATTRIBUTE.size > len(data):
            raise StunError("a STUN attribute that is cut")
        attribute, length = _ATTRIBUTE.unpack_from(data, at)
        value = data[at + _ATTRIBUTE.size : at + _ATTRIBUTE.size + length]
        if len(value) != length:
            raise StunError(f"a STUN attribute of {length} bytes that is cut")
        if attribute == FINGERPRINT:
            if data[at + 4 : at + 8] != _checksum(data[:at]).to_bytes(4, "big") or at + 8 != len(data) or length != 4:
                raise StunError("a STUN message with a wrong FINGERPRINT")
        elif attribute == XOR_MAPPED_ADDRESS and mapped is None:  # the first of several counts (§14)
            mapped = _endpoint(value, transaction)
        elif attribute == MAPPED_ADDRESS and plain is None:
            plain = _endpoint(value, None)
        elif attribute == ERROR_CODE and length >= 4:
            code = 100 * (value[2] & 0x07) + value[3]
        elif attribute not in _KNOWN and attribute < _OPTIONAL_FROM:
            unknown.append(attribute)
        at += _ATTRIBUTE.size + length + -length % 4
    return Message(kind, transaction, mapped or plain, tuple(dict.fromkeys(unknown)), code)


def _endpoint(value: bytes, transaction: bytes | None) -> Endpoint:
    """Decode (XOR-)MAPPED-ADDRESS; `transaction` None: not masked."""
    family = value[1] if len(value) >= 4 else 0
    if len(value) != {_IPV4: 8, _IPV6: 20}.get(family):
        raise StunError(f"a STUN address of family {family} in {len(value)} bytes")
    port = int.from_bytes(value[2:4], "big")
    packed = value[4:]
    if transaction is not None:
        port ^= COOKIE >> 16
        packed = _masked(packed, transaction)
    return Endpoint(str(ipaddress.ip_address(packed)), port)
