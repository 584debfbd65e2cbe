"""Packets of one wake-up: grouped where the uplink is fast, and arrivals wait for them, but never anything urgent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.measure.due_sessions import GROUP_MOST_NS, GROUP_SHARE, DueSessions, grouped_ns
from swarm_probe.measure.send_timer import FROM_MBPS, REST_MOST_NS, SendTimer
from swarm_probe.udp.rtt_session import RttSession
from swarm_protocol.units import NS_PER_MS, NS_PER_S

SOON = REST_MOST_NS // 2
LATER = REST_MOST_NS * 2


class Port:
    """What the timer needs of a UDP port, and what it was told."""

    def __init__(self) -> None:
        self.kernel_stamps = True
        self.many_expected = self.backlog = False
        self.listening = True
        self.reads = 0
        self.read_all = lambda: None

    def listen(self, listening: bool) -> None:
        self.listening = listening

    def read(self) -> None:
        self.reads += 1


def timer(port: Port, mbps: float = FROM_MBPS, urgent: Callable[[], bool] = lambda: False) -> SendTimer:
    made = SendTimer(cast(Any, port), lambda: 0, lambda: None, urgent)
    if mbps:
        made.uplink(mbps)
    return made


async def test_arrivals_wait_for_a_packet_of_ours_that_is_due_soon() -> None:
    port = Port()
    timer(port).arm(SOON)
    assert not port.listening
    port = Port()
    timer(port).arm(LATER)
    assert port.listening


async def test_arrivals_are_read_before_packets_are_sent() -> None:
    """Their answers are due, and a window may be complete."""
    port, seen = Port(), asyncio.Event()
    reads: list[int] = []

    def tick() -> None:
        reads.append(port.reads)
        seen.set()

    made = SendTimer(cast(Any, port), lambda: 0, tick, lambda: False)
    made.arm(0)
    async with asyncio.timeout(10):
        await seen.wait()
    assert reads == [1]


@pytest.mark.parametrize(
    ("port", "mbps"),
    [
        ({"kernel_stamps": False}, FROM_MBPS),  # a figure would depend on when a packet is read
        ({"many_expected": True}, FROM_MBPS),  # a train would not fit into the buffer
        ({"backlog": True}, FROM_MBPS),  # somebody floods the port
        ({}, FROM_MBPS / 2),  # answers that leave together would queue behind each other
        ({}, 0.0),  # nothing is known of the uplink
    ],
)
async def test_arrivals_do_not_wait_where_that_would_cost_something(port: dict[str, bool], mbps: float) -> None:
    made = Port()
    vars(made).update(port)
    timer(made, mbps).arm(SOON)
    assert made.listening


async def test_arrivals_do_not_wait_while_a_quic_connection_is_open() -> None:
    port, open_ones = Port(), {"a connection"}
    made = timer(port, urgent=lambda: bool(open_ones))
    made.arm(SOON)
    assert port.listening
    open_ones.clear()
    made.rest()
    assert not port.listening


async def test_without_a_session_arrivals_are_read_at_once() -> None:
    port = Port()
    made = timer(port)
    made.arm(SOON)
    made.arm(None)
    assert port.listening


def test_the_slowest_rate_seen_decides() -> None:
    """A neighbour is reached faster than the rest of the world."""
    made = timer(Port(), 900.0)
    assert made.groups
    made.uplink(8.0)
    made.uplink(900.0)
    assert not made.groups


@given(st.integers(0, 10**18), st.integers(1, 200 * NS_PER_S))
def test_a_grouped_packet_leaves_a_little_later_never_earlier(due_ns: int, interval_ns: int) -> None:
    later_ns = grouped_ns(due_ns, interval_ns) - due_ns
    assert 0 <= later_ns <= 1.5 * min(GROUP_MOST_NS, interval_ns / GROUP_SHARE)


def test_packets_of_many_sessions_share_moments_that_do_not_repeat() -> None:
    """Thirty-two peers, a packet each every four seconds: eight a second become two moments a second."""
    moments = sorted({grouped_ns(ms * 125 * NS_PER_MS, 4 * NS_PER_S) for ms in range(800)})
    assert 190 <= len(moments) <= 201
    gaps = {round((b - a) / NS_PER_MS) for a, b in pairwise(moments)}
    assert len(gaps) > 100


def test_sessions_with_short_intervals_are_not_grouped() -> None:
    assert grouped_ns(123_456_789, 300 * NS_PER_MS) == 123_456_789


def test_sessions_are_grouped_only_where_asked() -> None:
    due_ns = 10**9 + 1
    session = SimpleNamespace(next_due_ns=lambda: due_ns, interval_ns=4 * NS_PER_S)
    rtt = cast(RttSession, SimpleNamespace(session=session, ended=False, due_ns=0))
    sessions = DueSessions()
    sessions.push(rtt)
    assert sessions.first_ns() == due_ns
    sessions.grouped = True
    sessions.push(rtt)
    assert rtt.due_ns == grouped_ns(due_ns, 4 * NS_PER_S) > due_ns
