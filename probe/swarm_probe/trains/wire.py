"""Define the bytes of trains: packets over UDP, and the orders and reports about them over a connection.

    packet    sender → receiver, UDP: magic, token, train, number; then random bytes
    token     receiver → sender, first of all: it marks the packets of this test, and nobody else knows it
    order     sender → receiver: a train has ended (its number, packets sent); or so many bytes of a transfer follow on
              this connection; or nothing more
    report    receiver → sender, for each train: packets that arrived, packets dropped by the receiver's socket; then of
              each its number and the ns since the first

The connection's preamble has proven both ends. A packet is longer than any of STAMP, and begins neither as STUN nor as
QUIC does (RFC 9443).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

MAGIC: Final = b"\x05STr"
TOKEN_BYTES: Final = 8
MAX_REPORTED_NS: Final = 2**32 - 1
MAX_PACKETS: Final = 2**16 - 1  # of one train

_PACKET: Final = struct.Struct("!4s8sHH")
_ORDER: Final = struct.Struct("!BHI")
_REPORT: Final = struct.Struct("!HH")
_ARRIVAL: Final = struct.Struct("!HI")
ORDER_BYTES: Final = _ORDER.size
REPORT_BYTES: Final = _REPORT.size
ARRIVAL_BYTES: Final = _ARRIVAL.size
HEADER_BYTES: Final = _PACKET.size


class Order(enum.IntEnum):
    TRAIN_SENT = 1
    TRANSFER = 2
    END = 3


class Packet(msgspec.Struct, frozen=True):
    token: bytes
    train: int
    number: int


def is_train(data: bytes) -> bool:
    """Return whether this datagram is a packet of a train, and not of another protocol on the same port."""
    return data[: len(MAGIC)] == MAGIC and len(data) >= HEADER_BYTES


def encode_packet(packet: Packet, filler: bytes | memoryview) -> bytes:
    return _PACKET.pack(MAGIC, packet.token, packet.train, packet.number) + filler


def decode_packet(data: bytes) -> Packet:
    """Decode what `is_train` recognised."""
    _, token, train, number = _PACKET.unpack_from(data)
    return Packet(token, train, number)


def encode_order(order: Order, train: int, size: int) -> bytes:
    """`size`: packets of the train, or bytes of the transfer."""
    return _ORDER.pack(order, train, size)


def decode_order(data: bytes) -> tuple[Order, int, int]:
    """Decode into (order, train, size). Raises ValueError for an unknown order."""
    order, train, size = _ORDER.unpack(data)
    return Order(order), train, size


def encode_report(arrivals: Sequence[tuple[int, int]], dropped: int) -> bytes:
    """`arrivals`: (number, ns) by one clock. Those later than four seconds after the first are left out."""
    first_ns = min((ns for _, ns in arrivals), default=0)
    reported = [(number, ns - first_ns) for number, ns in arrivals if ns - first_ns <= MAX_REPORTED_NS]
    head = _REPORT.pack(len(reported), min(dropped, MAX_PACKETS))
    return head + b"".join(_ARRIVAL.pack(number, ns) for number, ns in reported)


def decode_report_head(data: bytes) -> tuple[int, int]:
    """Decode into (packets that follow, packets dropped)."""
    arrived, dropped = _REPORT.unpack(data)
    return arrived, dropped


def decode_arrivals(data: bytes, sent: int) -> list[tuple[int, int]]:
    """Decode into (number, ns), each number once, none that was not sent."""
    found: dict[int, int] = {}
    for number, ns in _ARRIVAL.iter_unpack(data):
        if number < sent:
            found.setdefault(number, ns)
    return list(found.items())
