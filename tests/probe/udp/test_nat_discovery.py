"""NAT discovery from STUN answers: a list of times instead of a clock, a router of three lines instead of a network."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from swarm_probe.udp.hole_punching import BURST_NS, FIRST_PAUSE_NS, KEEP_NS, LAST_PAUSE_NS, HolePunch
from swarm_probe.udp.nat_discovery import FAILED_NS, VALID_NS, Finding, NatWatch
from swarm_probe.udp.nat_discovery import KEEP_NS as ASK_NS
from swarm_protocol.packets import stun_packet
from swarm_protocol.packets.stun_packet import Endpoint
from swarm_protocol.units import NS_PER_MS, NS_PER_S

OWN = Endpoint("192.168.1.5", 40_000)
OUTSIDE = Endpoint("203.0.113.7", 40_000)
HARD = Endpoint("203.0.113.7", 50_000)
RTT_NS = 30 * NS_PER_MS
START = 7 * NS_PER_S
Router = Callable[[int], Endpoint | None]  # how the STUN port with this number sees us; None: nothing gets there


def watch(*, loopback: bool = False) -> NatWatch:
    numbers = itertools.count(1)
    made = NatWatch(lambda size: next(numbers).to_bytes(size, "big"))
    made.start(2, [OWN], START, loopback=loopback)
    return made


def play(one: NatWatch, router: Router, since_ns: int, until_ns: int) -> None:
    """Every request is answered after RTT_NS, or never."""
    now_ns = since_ns
    while now_ns <= until_ns:
        for ask in one.poll(now_ns):
            seen = router(ask.server)
            if seen is not None:
                assert one.receive(stun_packet.encode_success(ask.data[8:20], seen), now_ns + RTT_NS)
        due_ns = one.next_ns()
        assert due_ns is not None
        now_ns = max(due_ns, now_ns + 1)


@pytest.mark.parametrize(
    ("router", "finding"),
    [
        (lambda _: OWN, Finding("none", OWN, RTT_NS)),
        (lambda _: OUTSIDE, Finding("endpoint-independent", OUTSIDE, RTT_NS)),
        (lambda port: Endpoint("203.0.113.7", 50_000 + port), Finding("symmetric", HARD, RTT_NS)),
        (lambda _: None, Finding("udp-blocked")),
        # one port of the collector's is shut: there is a NAT, and that is all that is known
        (lambda port: OUTSIDE if port == 0 else None, Finding(None, OUTSIDE, RTT_NS)),
        (lambda port: OUTSIDE if port == 1 else None, Finding(None, OUTSIDE, RTT_NS)),
    ],
)  # fmt: skip
def test_the_kind_of_nat_follows_from_what_two_ports_see(router: Router, finding: Finding):
    one = watch()
    play(one, router, START, START + 5 * NS_PER_S)
    assert one.finding(START + 5 * NS_PER_S, peers_answer=False) == finding


def test_udp_that_peers_answer_over_is_not_blocked():
    """It is the collector's ports that are shut; a wrong reason would send somebody to his own firewall."""
    one = watch()
    play(one, lambda _: None, START, START + 5 * NS_PER_S)
    assert one.finding(START + 5 * NS_PER_S, peers_answer=True) == Finding(None)


def test_no_verdict_before_every_request_has_had_its_time():
    one = watch()
    play(one, lambda _: None, START, START + 3 * NS_PER_S)
    assert one.finding(START + 3 * NS_PER_S, peers_answer=False) == Finding(None)


def test_a_collector_on_this_machine_reveals_no_nat_in_front_of_it():
    one = watch(loopback=True)
    play(one, lambda _: Endpoint("127.0.0.1", 40_000), START, START + NS_PER_S)
    assert one.finding(START + NS_PER_S, peers_answer=False) == Finding(None, None, RTT_NS)


def test_a_restarted_router_is_noticed_before_mappings_expire_and_both_ports_are_queried_again():
    one = watch()
    play(one, lambda _: OUTSIDE, START, START + NS_PER_S)
    moved = Endpoint("203.0.113.7", 41_111)
    asked: list[int] = []
    play(one, lambda port: asked.append(port) or moved, START + NS_PER_S, START + ASK_NS + NS_PER_S)
    assert asked == [0, 1]
    assert one.finding(START + ASK_NS + NS_PER_S, peers_answer=True) == Finding("endpoint-independent", moved, RTT_NS)


def test_a_finding_expires_unless_it_is_confirmed():
    one = watch()
    play(one, lambda _: OUTSIDE, START, START + NS_PER_S)
    late_ns = START + VALID_NS + 2 * FAILED_NS
    play(one, lambda _: None, START + NS_PER_S, late_ns)
    assert one.finding(late_ns, peers_answer=True) == Finding(None)
    assert one.finding(late_ns, peers_answer=False) == Finding("udp-blocked")


def test_unrequested_answers_are_ignored():
    one = watch()
    (first, _) = one.poll(START)
    assert not one.receive(stun_packet.encode_success(bytes(12), OUTSIDE), START + 1)
    assert not one.receive(stun_packet.encode_indication(first.data[8:20]), START + 1)
    assert not one.receive(b"\x01\x01 anything", START + 1)
    assert one.receive(stun_packet.encode_success(first.data[8:20], OUTSIDE), START + 1)
    assert not one.receive(stun_packet.encode_success(first.data[8:20], OUTSIDE), START + 2)  # once


def test_hole_punching_comes_in_bursts_that_grow_rare_and_starts_over_with_news():
    hole = HolePunch(START)
    second = 1 * NS_PER_S
    knocks = [at for at in range(START, START + 3600 * second, second) if hole.punching_now(at)]
    bursts = [a for a, b in zip(knocks, [-second, *knocks], strict=False) if a - b > second]
    gaps = [b - a for a, b in itertools.pairwise(bursts)]
    assert gaps[0] == BURST_NS + FIRST_PAUSE_NS
    assert gaps == sorted(gaps)
    assert gaps[-1] == BURST_NS + LAST_PAUSE_NS
    later_ns = START + 3601 * second
    hole.begin(later_ns)
    assert hole.punching_now(later_ns)


def test_what_is_written_through_needs_no_keepalive():
    hole = HolePunch(START)
    assert not hole.due(START + KEEP_NS - 1)
    assert hole.due(START + KEEP_NS)
    hole.sent(START + KEEP_NS)
    assert not hole.due(START + 2 * KEEP_NS - 1)
