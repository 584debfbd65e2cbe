"""Compute the delay of a message on an idle connection: Linux halves TCP's window once for each timeout without data.

A connection that carries messages of P segments has a window of up to 2P: Linux lets it grow while less than twice what
was sent fits (tcp.h, tcp_is_cwnd_limited), by one for each segment that is acknowledged. After a rest longer than the
retransmission timeout it is halved for each timeout that passed, not below the initial window (tcp_output.c,
tcp_cwnd_restart; RFC 2861, RFC 5681 §4.1), if the congestion control is loss-based and tcp_slow_start_after_idle is on.
What does not fit then waits for acknowledgements, and the window doubles with each round trip. The rest counts from the
last segment that was sent.

Validated in namespaces (`python -m bench restart`): reno, cubic and BBR, 8 to 256 KB, rests of 0.05 to 3 s.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from swarm_predict.cost.network.lost_packets import RTO_MIN_MS
from swarm_predict.cost.network.window_after_loss import INITIAL_SEGMENTS, SEGMENT_BYTES
from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.units import BITS_PER_BYTE

INITIAL_WINDOW_BYTES: Final = INITIAL_SEGMENTS * SEGMENT_BYTES
_MAX_HALVINGS: Final = 30
_MESSAGES: Final = 12  # until one message leaves the window as the one before did


def halvings_of(rest_ms: Floats, rtt_ms: Floats) -> Floats:
    """Return how often the window is halved: once for each retransmission timeout without data."""
    with np.errstate(invalid="ignore"):
        timeouts = np.floor(np.maximum(rest_ms, 0.0) / (rtt_ms + RTO_MIN_MS))
    return np.asarray(np.clip(np.nan_to_num(timeouts, nan=0.0), 0, _MAX_HALVINGS))


def window_bytes(size_bytes: Floats, rest_ms: Floats, rtt_ms: Floats) -> Floats:
    """The window of a connection that carries messages of `size_bytes` with such a rest before each.

    Halving rounds down, so the window one segment below may reproduce itself, too (182 segments, three timeouts: 26 and
    25, a round trip apart). A connection comes from above and stays at the larger one unless an acknowledgement fails
    to count."""
    halvings = halvings_of(rest_ms, rtt_ms)
    segments = np.ceil(size_bytes / SEGMENT_BYTES)
    most = np.maximum(2 * segments, INITIAL_SEGMENTS)
    left = most
    for _ in range(_MESSAGES):
        begins = np.maximum(np.floor(left / 2**halvings), INITIAL_SEGMENTS)
        left = np.minimum(most, begins + segments)
    return np.asarray(begins * SEGMENT_BYTES)


def waiting_ms(size_bytes: Floats, window: Floats, rtt_ms: Floats, rate_mbps: Floats) -> Floats:
    """Return the delay of a message that exceeds the window: a round trip for each window it must wait for, less the
    time that this window took to send. An unknown rate counts as an idle line."""
    window, left = window.astype(np.float64), size_bytes - window
    extra = np.zeros(np.broadcast_shapes(left.shape, rtt_ms.shape))
    per_byte = np.where(np.isfinite(rate_mbps), BITS_PER_BYTE / (np.fmax(rate_mbps, 1e-9) * 1e3), 0.0)
    while np.any(waits := left > 0):
        extra += np.where(waits, np.fmax(np.nan_to_num(rtt_ms - window * per_byte, nan=0.0), 0.0), 0.0)
        window = 2 * window
        left = left - window
    return extra
