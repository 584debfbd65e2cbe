"""Read what the router needs from an IPv4 packet: addresses, and the STAMP sequence to pair round trips.

Also rewrites addresses and ports for NAT, with incrementally updated checksums (RFC 1624).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

TCP, UDP, ICMP = 6, 17, 1
STAMP_PLAIN_BYTES = 44  # RFC 8762 §4.2, §4.3
STAMP_SIGNED_BYTES = (112, 152)  # without and with a signed follow-up (RFC 8972 §4.7)


@dataclass(frozen=True, slots=True)
class StampTag:
    """One STAMP packet seen on the wire. `seq` is the request's, in the reply too: that pairs the two."""

    is_reply: bool
    ssid: int
    seq: int


def protocol_of(packet: bytes | bytearray) -> int:
    return packet[9]


def ports(packet: bytes | bytearray) -> tuple[int, int] | None:
    """Return source and destination port of TCP and UDP; ICMP echo's identifier twice; None for others and
    fragments."""
    header = (packet[0] & 15) * 4
    if len(packet) < header + 8 or struct.unpack_from("!H", packet, 6)[0] & 0x1FFF:
        return None
    if packet[9] in (TCP, UDP):
        source, target = struct.unpack_from("!HH", packet, header)
        return int(source), int(target)
    if packet[9] == ICMP and packet[header] in (0, 8):
        (identifier,) = struct.unpack_from("!H", packet, header + 4)
        return int(identifier), int(identifier)
    return None


def stamp_tag(packet: bytes | bytearray) -> StampTag | None:
    """Return the STAMP packet inside a UDP packet, judged by its length and zero fields (RFC 8762 §4.2–4.3)."""
    header = (packet[0] & 15) * 4
    body = header + 8
    size = len(packet) - body
    if packet[9] != UDP or size not in (STAMP_PLAIN_BYTES, *STAMP_SIGNED_BYTES):
        return None
    if size == STAMP_PLAIN_BYTES:
        seq, ssid, received, sender_seq = *_at(packet, body, 0, 14), packet[body + 16 : body + 24], body + 24
    else:
        seq, ssid, received, sender_seq = *_at(packet, body, 0, 26), packet[body + 32 : body + 40], body + 48
    if not any(received):  # only a reflector fills in the receive time
        return StampTag(False, ssid, seq)
    return StampTag(True, ssid, struct.unpack_from("!I", packet, sender_seq)[0])


def _at(packet: bytes | bytearray, body: int, seq: int, ssid: int) -> tuple[int, int]:
    return struct.unpack_from("!I", packet, body + seq)[0], struct.unpack_from("!H", packet, body + ssid)[0]


def rewrite(
    packet: bytes, *, src: tuple[bytes, int] | None = None, dst: tuple[bytes, int] | None = None
) -> bytes | None:
    """Return the packet with another source or destination (4 address bytes, port) and right checksums; None if
    impossible.

    ICMP: the port is the echo identifier.
    """
    header = (packet[0] & 15) * 4
    protocol = packet[9]
    out = bytearray(packet)
    address_delta = port_delta = 0
    for pair, address_at, port_at in ((src, 12, 0), (dst, 16, 2)):
        if pair is None:
            continue
        address, port = pair
        address_delta += _difference(bytes(out[address_at : address_at + 4]), address)
        out[address_at : address_at + 4] = address
        place = header + (4 if protocol == ICMP else port_at)
        new = struct.pack("!H", port)
        port_delta += _difference(bytes(out[place : place + 2]), new)
        out[place : place + 2] = new
    _update_checksum(out, 10, address_delta)
    if protocol == TCP:
        _update_checksum(out, header + 16, address_delta + port_delta)
    elif protocol == UDP:
        if out[header + 6 : header + 8] != b"\x00\x00":  # zero: the sender did not compute one (RFC 768)
            _update_checksum(out, header + 6, address_delta + port_delta)
            if out[header + 6 : header + 8] == b"\x00\x00":
                out[header + 6 : header + 8] = b"\xff\xff"
    elif protocol == ICMP:
        _update_checksum(out, header + 2, port_delta)
    else:
        return None
    return bytes(out)


def _difference(old: bytes, new: bytes) -> int:
    """Sum ~old + new over 16-bit words: what RFC 1624 (eqn. 3) adds to the complemented checksum."""
    words = len(old) // 2
    return sum(
        (~was & 0xFFFF) + now
        for was, now in zip(struct.unpack(f"!{words}H", old), struct.unpack(f"!{words}H", new), strict=True)
    )


def _update_checksum(packet: bytearray, at: int, delta: int) -> None:
    (checksum,) = struct.unpack_from("!H", packet, at)
    total = (~checksum & 0xFFFF) + delta
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into("!H", packet, at, ~total & 0xFFFF)
