"""Compute the delay that BBR adds to a message: it paces packets, even on an idle line.

A connection that carries one message at a time never fills its path, so BBR (v1, Linux tcp_bbr.c) stays in its
startup: samples that the program limited do not end it. It sends at GAIN times the highest rate that acknowledgements
have shown, and an idle line shows a message of S bytes within the round trip and the time T that pacing took:
S / (RTT + T). So T settles at about half a round trip, whatever the size. Below some 20 KB the rate is that of the
first window: it does not fall before startup ends (bbr_set_pacing_rate).

A chunk of two segments leaves at once and another is due after half the usual interval, as the rate is low and the
connection has rested (tcp_output.c, tcp_tso_autosize and tcp_update_skb_after_send): three segments are not paced.

BBR takes no loss below some 20 % for congestion, and its window is twice what a message needs. But retransmissions are
not limited by the program, and a few rounds of them without a higher rate end the startup, for good: from then on it
sends at little more than the rate that it knows. That rate settles where a message takes about as long to send as its
round trip, because only what is sent after the first acknowledgement shows a higher one.

Held against Linux in namespaces: tests/predict/cost/network/test_bbr_pacing.py has the figures.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from swarm_predict.cost.network.window_after_loss import INITIAL_SEGMENTS, LIFETIME, SEGMENT_BYTES
from swarm_protocol.snapshot.swarm import Floats, Ints
from swarm_protocol.units import BITS_PER_BYTE

GAIN: Final = 2885 / 1000 * 0.99  # bbr_high_gain (2 / ln 2), and bbr_pacing_margin_percent
UNPACED_SEGMENTS: Final = 3
STARTED_RTTS: Final = 1.1  # that a message takes to send once startup is over; measured: 0.9 to 1.5, 8 to 131 KB
LOSSES_TO_START: Final = 8  # messages with a retransmission until then; measured: 4 to 15


def pacing_ms(size_bytes: float, rtt_ms: Floats, rate_mbps: Floats) -> Floats:
    """Return what pacing adds to a message beyond the time that its bytes take on the line. An unknown rate counts as
    an idle line, an unknown round trip as none."""
    rtt = np.nan_to_num(rtt_ms, nan=0.0)
    unpaced = UNPACED_SEGMENTS * SEGMENT_BYTES
    first = GAIN * INITIAL_SEGMENTS * SEGMENT_BYTES  # bytes a round trip; the rate is
    settled = (GAIN - 1) * size_bytes + unpaced  # GAIN · S / (RTT + T) with T = (S − unpaced) / rate
    paced = max(size_bytes - unpaced, 0.0) * rtt / max(first, settled)
    per_byte = np.where(np.isfinite(rate_mbps), BITS_PER_BYTE / (np.fmax(rate_mbps, 1e-9) * 1e3), 0.0)
    return np.asarray(np.fmax(paced - max(size_bytes - unpaced, 0.0) * per_byte, 0.0))


def after_losses_ms(size_bytes: Floats, rtt_ms: Floats, rate_mbps: Floats, ended: Floats) -> Floats:
    """Return what pacing adds beyond `pacing_ms` on paths whose losses have ended the startup, for a share `ended` of
    the messages (`startup_ended`). Arrays of one shape."""
    rtt = np.nan_to_num(rtt_ms, nan=0.0)
    per_byte = np.where(np.isfinite(rate_mbps), BITS_PER_BYTE / (np.fmax(rate_mbps, 1e-9) * 1e3), 0.0)
    before = np.array([float(pacing_ms(*each)) for each in zip(size_bytes, rtt, rate_mbps, strict=True)])
    paced = np.where(size_bytes > UNPACED_SEGMENTS * SEGMENT_BYTES, STARTED_RTTS * rtt, 0.0)
    return np.asarray(ended * np.fmax(paced - size_bytes * per_byte - before, 0.0))


def startup_ended(segments: Floats | Ints, loss: Floats) -> Floats:
    """Return the share of a connection's messages that come after its startup. `loss`: of a packet, one way."""
    harmed = -np.expm1(segments * np.log1p(-np.minimum(loss, 0.999)))
    with np.errstate(divide="ignore"):
        return np.asarray(1 - np.minimum(1.0, LOSSES_TO_START / (LIFETIME * harmed)))
