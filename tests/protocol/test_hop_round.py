"""A round of hops is the same for its sender, for its price and for the count of its packets."""

from __future__ import annotations

import math

import pytest

from swarm_collector.scheduling.measurement_plan import HOP_CADENCE_MS, HOP_DAILY_BYTES, HOP_EVERY_MS, hop_every_ms
from swarm_predict.cost.network import lost_packets
from swarm_protocol.hop_round import AFTER_IDLE, MSS_BYTES, messages_in_round, round_bytes
from swarm_protocol.units import NS_PER_MS

DAY_MS = 86_400_000
CADENCE_NS = round(HOP_CADENCE_MS * NS_PER_MS)
SIZES = (4_096, 16_384, 100_000, 350_000, 1 << 20)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("peers", [1, 4, 31])
def test_the_rounds_of_a_day_stay_within_the_promised_bytes_and_use_them(size: int, peers: int) -> None:
    every_ms = hop_every_ms(peers, size, watched=False)
    messages = 1 + messages_in_round(size, CADENCE_NS) + AFTER_IDLE
    packets = messages * math.ceil(size / MSS_BYTES)
    spent = DAY_MS / every_ms * 2 * peers * (messages * size + 52 * packets)  # both directions, with headers
    if every_ms < HOP_EVERY_MS[1]:
        assert 0.9 * HOP_DAILY_BYTES < spent <= HOP_DAILY_BYTES


@pytest.mark.parametrize("size", SIZES)
def test_a_retransmission_is_pooled_with_the_packets_that_were_sent(size: int) -> None:
    """A large message is sent three times in a round, not twelve: dividing by twelve makes the loss too small."""
    import numpy as np

    one = np.ones((1, 1))
    loss, _, _ = lost_packets.settled(
        50 * one, 51 * one, 52 * one, 0 * one, np.zeros((1, 1), np.int64), np.full((1, 1), size), 50 * one, 400 * one,
        400 * one,
    )  # fmt: skip
    packets = math.ceil(size / MSS_BYTES) * messages_in_round(size, CADENCE_NS)
    assert loss[0, 0] == pytest.approx(1 - (1 - 1 / packets) ** 2)


def test_a_round_is_bounded_in_bytes() -> None:
    assert round_bytes(16_384, CADENCE_NS) < 16 * 16_384 * 1.07
