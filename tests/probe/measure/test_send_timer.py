"""Packets of one wake-up: grouped where the uplink is fast, and arrivals wait for them, but never anything urgent."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from swarm_probe.measure.due_sessions import MAX_SLACK_NS, DueSessions, slack_ns
from swarm_probe.measure.send_timer import FROM_MBPS, MAX_REST_NS, REST_VARIES, SOON_RESTS, SendTimer
from swarm_probe.udp.rtt_session import RttSession
from swarm_protocol.units import NS_PER_MS, NS_PER_S

SOON = MAX_REST_NS // 2
LATER = MAX_REST_NS * SOON_RESTS + 1


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
    made = SendTimer(cast(Any, port), lambda: 0, random.Random(1), lambda: None, urgent)
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

    made = SendTimer(cast(Any, port), lambda: 0, random.Random(1), tick, lambda: False)
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


async def test_a_packet_that_is_due_a_little_later_is_waited_for_in_rests_that_vary() -> None:
    """A request waits for its answer no longer than a rest: clocks would count more than that as delay."""
    rests = set()
    for seed in range(50):
        port = Port()
        made = SendTimer(cast(Any, port), lambda: 0, random.Random(seed), lambda: None, lambda: False)
        made.uplink(FROM_MBPS)
        made.arm(MAX_REST_NS * SOON_RESTS)
        assert not port.listening
        rests.add(made.due_ns)
        made.cancel()
    assert len(rests) == 50
    assert min(rests) >= MAX_REST_NS * (1 - REST_VARIES)
    assert max(rests) <= MAX_REST_NS


async def test_answers_under_way_are_read_together_after_a_rest_whenever_the_next_packet_is_due() -> None:
    """Listening would cost a wake-up for each of them."""
    port = Port()
    made = timer(port)
    made.arm(LATER, answers=True)
    assert not port.listening
    assert MAX_REST_NS * (1 - REST_VARIES) <= made.due_ns <= MAX_REST_NS
    made.cancel()
    made.arm(SOON, answers=True)
    assert made.due_ns == SOON  # they are read along with the next packet
    made.cancel()
    made = timer(port, FROM_MBPS / 2)
    made.arm(LATER, answers=True)
    assert (port.listening, made.due_ns) == (True, LATER)
    made.cancel()


async def test_nothing_wakes_up_in_between_on_an_uplink_where_packets_are_not_grouped() -> None:
    made = timer(Port(), FROM_MBPS / 2)
    made.arm(MAX_REST_NS * 2)
    assert made.due_ns == MAX_REST_NS * 2
    made.cancel()


# ------------------------------------------------------------ which packets go together


def rtt(due_ns: int, interval_ns: int = 4 * NS_PER_S) -> RttSession:
    session = SimpleNamespace(next_due_ns=lambda: due_ns, interval_ns=interval_ns)
    return cast(RttSession, SimpleNamespace(session=session, ended=False, due_ns=0))


def due_by(sessions: DueSessions, now_ns: int) -> list[RttSession]:
    found = []
    while (one := sessions.pop(now_ns)) is not None:
        found.append(one)
    return found


@pytest.mark.parametrize(
    ("interval_ms", "slack_ms"),
    [(100_000, 250), (4_000, 250), (1_000, 125), (480, 60), (479, 0), (250, 0)],
)
def test_a_packet_may_leave_an_eighth_of_its_interval_later_never_earlier(interval_ms: int, slack_ms: int) -> None:
    assert slack_ns(interval_ms * NS_PER_MS) == slack_ms * NS_PER_MS


def test_packets_that_are_due_within_the_slack_of_the_first_leave_with_it() -> None:
    sessions = DueSessions()
    sessions.grouped = True
    first, second, third = rtt(1), rtt(MAX_SLACK_NS), rtt(MAX_SLACK_NS + 2)
    for each in (third, second, first):
        sessions.push(each)
    assert sessions.pop(0) is None
    assert sessions.first_ns() == 1 + MAX_SLACK_NS
    assert due_by(sessions, 1 + MAX_SLACK_NS) == [first, second]
    assert sessions.first_ns() == 2 * MAX_SLACK_NS + 2


def test_a_session_with_a_short_interval_waits_for_no_other() -> None:
    sessions = DueSessions()
    sessions.grouped = True
    often, seldom = rtt(20, 300 * NS_PER_MS), rtt(10)
    sessions.push(seldom)
    sessions.push(often)
    assert sessions.first_ns() == 20
    assert due_by(sessions, 20) == [often, seldom]


def test_packets_wait_for_each_other_only_where_asked() -> None:
    sessions = DueSessions()
    sessions.push(rtt(10))
    assert sessions.first_ns() == 10


def test_the_former_time_of_a_session_that_was_moved_does_not_count() -> None:
    sessions = DueSessions()
    moved = rtt(10)
    sessions.push(moved)
    moved.session.next_due_ns = lambda: 30  # type: ignore[method-assign]
    sessions.push(moved)
    assert due_by(sessions, 10) == []
    assert due_by(sessions, 30) == [moved]
