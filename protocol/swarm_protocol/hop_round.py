"""Define the constants of a round of hops: the probe sends it, the collector prices it, the predictor counts
packets."""

from __future__ import annotations

import math
from typing import Final

from swarm_protocol.units import NS_PER_S

MESSAGES: Final = 12  # at decode cadence, after the first: enough for a median and a worst one
MESSAGES_MIN: Final = 3  # also where the byte limit would allow fewer
AFTER_IDLE: Final = 3  # messages, each after a pause
ROUND_BYTES: Final = 1 << 20  # of the messages at cadence
ROUND_NS: Final = 30 * NS_PER_S  # other peers and transfers wait meanwhile
PREFILL_ROUNDS: Final = 10  # one prefill chunk in so many rounds of decode steps: it is eight times as large
MSS_BYTES: Final = 1460  # Ethernet without options
_HEADER_BYTES: Final = 52  # of a packet: IPv4 and TCP with timestamps


def messages_in_round(size_bytes: int, cadence_ns: int) -> int:
    """Return the messages at cadence; fewer where they are large or slow."""
    return max(MESSAGES_MIN, min(MESSAGES, ROUND_BYTES // size_bytes, ROUND_NS // max(1, cadence_ns)))


def round_bytes(size_bytes: int, cadence_ns: int) -> int:
    """Return the bytes of a whole round on the wire: the first message, those at cadence and those after a pause."""
    return (1 + messages_in_round(size_bytes, cadence_ns) + AFTER_IDLE) * _message_bytes(size_bytes)


def prefill_bytes(size_bytes: int) -> int:
    """Return the bytes of one measured prefill chunk on the wire: the first message and a few more."""
    return (1 + MESSAGES_MIN) * _message_bytes(size_bytes)


def _message_bytes(size_bytes: int) -> int:
    acknowledged = math.ceil(size_bytes / MSS_BYTES / 2) + 1  # every second packet, and by the peer's own message
    return size_bytes + _HEADER_BYTES * (math.ceil(size_bytes / MSS_BYTES) + acknowledged)
