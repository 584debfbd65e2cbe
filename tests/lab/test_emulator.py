"""The emulated internet, packet by packet, with the time passed in: every truth table is based on it."""

from __future__ import annotations

import numpy as np
import pytest
import wire
from hypothesis import given
from hypothesis import strategies as st

from swarm_lab.emulation.emulator import Emulator, own_address, public_address
from swarm_lab.emulation.scenario import Event, parse_scenario
from swarm_lab.emulation.truth import PacketOutcome

MS = 1_000_000
TWO = """
title = "two"
[[host]]
name = "a"
access = {{ up_mbps = 8.0, down_mbps = 80.0, delay_ms = 1.0, queue_ms = 100.0 }}
{a}
[[host]]
name = "b"
access = {{ up_mbps = 80.0, down_mbps = 8.0, delay_ms = 2.0, queue_ms = 50.0 }}
{b}
{rest}
"""


class Net:
    """An emulator with its records, and packets offered and delivered by hand."""

    def __init__(self, a: str = "", b: str = "", rest: str = "") -> None:
        self.scenario = parse_scenario(TWO.format(a=a, b=b, rest=rest))
        self.fates: list[PacketOutcome] = []
        n = len(self.scenario.host)
        self.emulator = Emulator(self.scenario, np.zeros((n, n)), self._record)

    def _record(self, packet, src, dst, in_ns, fate, intended_ns, out_ns):
        self.fates.append(fate)

    def send(self, now_ns: int, src: int, dst: int, size: int = 1000, port: int = 5000) -> None:
        here = (own_address(self.scenario, src), port)
        self.emulator.offer(now_ns, src, wire.udp(here, (public_address(dst), port), b"x" * (size - 28)))

    def arrivals_ms(self) -> list[float]:
        """When each packet under way is due, in the order of delivery."""
        times = []
        while (now_ns := self.emulator.next_ns()) is not None:
            for delivery in self.emulator.due(now_ns):
                times.append(delivery.intended_ns / MS)
                self.emulator.delivered(delivery, delivery.intended_ns, taken=True)
        return times


def test_a_lone_packet_pays_uplink_both_accesses_and_downlink():
    net = Net()
    net.send(0, 0, 1)  # 1000 bytes at 8 Mbit/s are 1 ms up, and 1 ms down at b's 8 Mbit/s
    assert net.arrivals_ms() == [pytest.approx(1 + 1 + 2 + 1)]


def test_packets_of_one_moment_queue_for_the_line_and_keep_their_order():
    net = Net()
    for _ in range(3):
        net.send(0, 0, 1)
    assert net.arrivals_ms() == [pytest.approx(5), pytest.approx(6), pytest.approx(7)]


def test_the_ways_there_and_back_have_lines_of_their_own():
    net = Net()
    net.send(0, 0, 1)
    net.send(0, 1, 0)
    assert sorted(net.arrivals_ms()) == [pytest.approx(0.1 + 3 + 0.1), pytest.approx(5)]


def test_a_full_queue_drops_and_says_at_which_end():
    net = Net()
    for _ in range(200):  # 200 ms worth into a queue of 100 ms
        net.send(0, 0, 1)
    assert net.fates.count(PacketOutcome.UP_QUEUE) == 99  # 100 ms of waiting, and the one on the line
    net.arrivals_ms()
    assert net.fates.count(PacketOutcome.DELIVERED) == 101


def test_a_slow_downlink_drops_what_its_own_queue_cannot_hold():
    net = Net(rest='[[event]]\nat_s = 0\naction = "access"\nhost = "a"\nup_mbps = 1000.0')
    net.emulator.apply(net.scenario.event[0])
    for _ in range(200):
        net.send(0, 0, 1)
    net.arrivals_ms()
    assert net.fates.count(PacketOutcome.DOWN_QUEUE) > 100


@given(gaps=st.lists(st.integers(0, 3 * MS), min_size=2, max_size=60), seed=st.integers(0, 1000))
def test_order_is_kept_under_any_jitter_unless_overtaking_is_asked_for(gaps, seed):
    path = '[[path]]\nfrom = "a"\nto = "b"\njitter = { p95_ms = 30.0, law = "pareto" }'
    net = Net(rest=path)
    now, sizes = 0, []
    for k, gap in enumerate(gaps):
        now += gap
        net.send(now, 0, 1, size=100 + k)
    while (at := net.emulator.next_ns()) is not None:
        sizes.extend(len(d.packet) for d in net.emulator.due(at))
    assert sizes == sorted(sizes)


def test_overtaking_happens_where_it_is_asked_for():
    path = '[[path]]\nfrom = "a"\nto = "b"\nreorder = true\njitter = { law = "trace", trace_ms = [20.0, 0.0] }'
    net = Net(rest=path)
    net.send(0, 0, 1, size=100)
    net.send(MS, 0, 1, size=200)
    order = [len(d.packet) for at in (10 * MS, 40 * MS) for d in net.emulator.due(at)]
    order += [len(d.packet) for d in net.emulator.due(80 * MS)]
    assert order == [200, 100]


def test_delays_may_differ_by_direction():
    net = Net(rest='[[path]]\nfrom = "a"\nto = "b"\ndelay_ms = 40.0\nboth = false')
    net.send(0, 0, 1)
    assert net.arrivals_ms() == [pytest.approx(45)]
    net.send(0, 1, 0)
    assert net.arrivals_ms()[-1] == pytest.approx(3.2)


def test_a_cut_separates_the_sides_and_healing_joins_them():
    net = Net()
    net.emulator.apply(Event(at_s=0, action="cut", hosts=("b",)))
    net.send(0, 0, 1)
    assert net.arrivals_ms() == []
    assert net.fates == [PacketOutcome.CUT]
    net.emulator.apply(Event(at_s=1, action="heal"))
    net.send(MS, 0, 1)
    assert len(net.arrivals_ms()) == 1


def test_blocked_udp_is_filtered_both_ways():
    net = Net(b='nat = "udp-blocked"')
    net.send(0, 0, 1)
    net.send(0, 1, 0)
    assert net.arrivals_ms() == []
    assert net.fates == [PacketOutcome.FILTERED, PacketOutcome.FILTERED]


def test_behind_a_nat_only_answers_come_in():
    net = Net(b='nat = "endpoint-independent"')
    net.send(0, 0, 1)
    assert net.arrivals_ms() == []
    net.send(100 * MS, 1, 0)
    assert len(net.arrivals_ms()) == 1
    net.send(200 * MS, 0, 1)  # the router kept the port: a can now answer
    assert len(net.arrivals_ms()) == 1


@pytest.mark.parametrize("junk", [b"", b"\x45", b"\x60" + b"\x00" * 60, b"\x45" + b"\x00" * 18])
def test_what_is_no_ipv4_packet_is_ignored(junk):
    net = Net()
    net.emulator.offer(0, 0, junk)
    assert net.emulator.next_ns() is None


def test_a_line_may_get_slower_and_its_queue_shorter_while_it_runs():
    """1,000 bytes at 8 Mbit/s are 1 ms, at 1 Mbit/s 8 ms; a queue of 4 ms takes the second and drops the third."""
    net = Net()
    net.emulator.apply(Event(at_s=0, action="access", host="a", up_mbps=1.0, queue_ms=4.0))
    for _ in range(3):
        net.send(0, 0, 1)
    assert net.arrivals_ms() == [pytest.approx(8 + 3 + 1)]
    assert net.fates == [PacketOutcome.UP_QUEUE, PacketOutcome.UP_QUEUE, PacketOutcome.DELIVERED]


def test_a_line_may_get_longer_while_it_runs():
    """1 ms of access becomes 21: twice 1,000 bytes at their rates, and the other end's 2 ms."""
    net = Net()
    net.send(0, 0, 1)
    (before,) = net.arrivals_ms()
    net.emulator.apply(Event(at_s=0, action="access", host="a", delay_ms=21.0))
    net.send(0, 0, 1)
    assert net.arrivals_ms()[-1] - before == pytest.approx(20 + 1)  # and the first packet leaves the line after 1 ms


def test_a_host_that_leaves_neither_sends_nor_receives_until_it_is_back():
    net = Net()
    net.emulator.apply(Event(at_s=0, action="leave", host="b"))
    net.send(0, 0, 1)
    net.send(0, 1, 0)
    assert net.arrivals_ms() == []
    net.emulator.apply(Event(at_s=1, action="join", host="b"))
    net.send(10 * MS, 0, 1)
    assert len(net.arrivals_ms()) == 1


def test_a_path_may_turn_bad_one_way_and_lossy():
    net = Net()
    net.emulator.apply(parse_event('at_s = 0\naction = "path"\nfrom = "a"\nto = "*"\ndelay_ms = 80.0'))
    net.send(0, 0, 1)
    net.send(0, 1, 0)
    assert sorted(net.arrivals_ms()) == [pytest.approx(3.2), pytest.approx(85)]
    net.emulator.apply(
        parse_event('at_s = 1\naction = "path"\nfrom = "a"\nto = "b"\nloss = { rate = 0.5, burst = 4.0 }')
    )
    net.fates.clear()
    for k in range(400):
        net.send((100 + 20 * k) * MS, 0, 1)
        net.arrivals_ms()
    assert 100 < net.fates.count(PacketOutcome.LOST) < 300


def parse_event(text: str) -> Event:
    return parse_scenario(TWO.format(a="", b="", rest=f"[[event]]\n{text}")).event[0]
