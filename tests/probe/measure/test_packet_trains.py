"""The rate of trains of packets: what delays some of them changes nothing, and what was held back shows no rate."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.measure.transfers.packet_trains import MIN_NS, TRAIN_BYTES, TRAIN_GAP_NS, largest_pair
from swarm_protocol.units import NS_PER_MS

PACKET = 1448
SPACING_NS = 116_000  # of packets at 100 Mbit/s
RATE = PACKET / SPACING_NS
COUNT = 300


def rates(at_ns: list[int], sizes: list[int]) -> list[float]:
    pair = largest_pair(at_ns, list(accumulate(sizes)))
    return [size / ns for size, ns in pair if ns]


def train(began_ns: int, count: int = COUNT, spacing_ns: int = SPACING_NS) -> list[int]:
    return [began_ns + k * spacing_ns for k in range(count)]


@given(st.dictionaries(st.integers(61, COUNT - 30), st.integers(1, 3 * NS_PER_MS), max_size=100))
def test_packets_that_came_late_change_nothing_between_two_that_did_not(late: dict[int, int]) -> None:
    """Order is kept: those behind a late one are late too, until they have caught up."""
    at_ns = list(accumulate((at + late.get(k, 0) for k, at in enumerate(train(0))), max))
    assert rates(at_ns, [PACKET] * COUNT) == [pytest.approx(RATE)]


def test_first_and_last_packet_alone_would_be_wrong() -> None:
    at_ns = train(0)
    at_ns[60:70] = [at_ns[70]] * 10
    at_ns[-1] += 2 * NS_PER_MS
    assert rates(at_ns, [PACKET] * COUNT) == [pytest.approx(RATE)]


def test_what_a_lost_packet_held_back_is_read_at_once_and_shows_no_rate() -> None:
    held, after = [0] * 250, train(SPACING_NS, 50)
    assert rates(held + after, [PACKET] * COUNT) == []


def test_the_largest_train_is_compared_with_the_next_one_that_was_not_slowed_by_its_sender() -> None:
    gap_ns = 10 * TRAIN_GAP_NS
    first = train(0, 400)
    second = train(first[-1] + gap_ns, 350, 2 * SPACING_NS)
    third = train(second[-1] + gap_ns, 300)
    sizes = [PACKET] * 1050
    assert rates(first + second + third, sizes) == [pytest.approx(RATE), pytest.approx(RATE)]


def test_small_trains_are_none() -> None:
    count = TRAIN_BYTES // PACKET
    assert rates(train(0, count), [PACKET] * count) == []


@given(st.lists(st.tuples(st.integers(0, 20 * NS_PER_MS), st.integers(1, 1 << 18)), max_size=80))
def test_any_arrivals_give_trains_that_lie_within_them(reads: list[tuple[int, int]]) -> None:
    at_ns, totals = list(accumulate(gap for gap, _ in reads)), list(accumulate(size for _, size in reads))
    for size, ns in largest_pair(at_ns, totals):
        assert (size, ns) == (0, 0) or (0 < size <= totals[-1] and MIN_NS <= ns <= at_ns[-1] - at_ns[0])
