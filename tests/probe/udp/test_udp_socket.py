"""The UDP port: kernel stamps, an error queue that is drained, and addresses that a probe sends to."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.clocks import Clocks
from swarm_probe.owner_limits.egress_policy import EgressPolicy, Scope
from swarm_probe.sockets import Target, bind_all, target
from swarm_probe.udp.udp_socket import Arrival, UdpPort
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_S

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kernel stamps are asked for on Linux only")


class Port:
    def __init__(self) -> None:
        self.arrivals: asyncio.Queue[Arrival] = asyncio.Queue()
        self.departures: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.counts: Counter[str] = Counter()
        self.udp = UdpPort(
            self.arrivals.put_nowait, lambda t, ns: self.departures.put_nowait((t, ns)), self.counts, Clocks()
        )

    async def arrival(self) -> Arrival:
        return await asyncio.wait_for(self.arrivals.get(), 5)


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    one = Port()
    one.udp.open("127.0.0.1", 0)
    yield one
    one.udp.close()


def to(port: Port) -> Target:
    where = target("127.0.0.1", port.udp.port)
    assert where is not None
    return where


@linux
async def test_the_kernel_stamps_departure_and_arrival_between_our_two_looks(port: Port) -> None:
    before_ns = time.time_ns()
    assert port.udp.send(b"x" * 112, to(port), token=41) is None
    arrival = await port.arrival()
    token, left_ns = await asyncio.wait_for(port.departures.get(), 5)
    assert token == 41
    assert arrival.kernel
    assert before_ns <= left_ns <= arrival.wall_ns <= time.time_ns()
    assert arrival.ttl == 255
    assert arrival.data == b"x" * 112


@linux
async def test_departures_keep_their_tokens_over_a_send_that_failed(port: Port) -> None:
    where = to(port)
    port.udp.send(b"a", where, token=1)
    assert port.udp.send(b"b" * 70_000, where, token=2) is not None
    port.udp.send(b"c", where, token=3)
    tokens = [(await asyncio.wait_for(port.departures.get(), 5))[0] for _ in range(2)]
    assert tokens == [1, 3]


@linux
async def test_the_error_queue_is_left_empty_so_that_the_loop_can_sleep(port: Port) -> None:
    for token in range(20):
        port.udp.send(b"x", to(port), token=token)
    for _ in range(20):
        await port.arrival()
    (bound,) = port.udp._bound.values()
    with pytest.raises(BlockingIOError):
        bound.socket.recvmsg(0, 256, socket.MSG_ERRQUEUE)


async def test_an_answer_leaves_from_the_address_that_was_asked() -> None:
    """A machine with several addresses: the caller's router only lets in answers from where it asked."""
    one = Port()
    one.udp.open("", 0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
            caller.bind(("127.0.0.1", 0))
            caller.sendto(b"?", ("127.0.0.5" if sys.platform.startswith("linux") else "127.0.0.1", one.udp.port))
            arrival = await one.arrival()
            assert one.udp.send(b"!", arrival.source, ancillary=arrival.reply_with) is None
            caller.settimeout(5)
            data, source = await asyncio.to_thread(caller.recvfrom, 10)
            assert data == b"!"
            assert source == ("127.0.0.5" if sys.platform.startswith("linux") else "127.0.0.1", one.udp.port)
    finally:
        one.udp.close()


async def test_an_arrival_without_a_kernel_stamp_says_so(port: Port) -> None:
    family = next(iter(port.udp._bound))
    arrival = port.udp._arrival(family, b"x", [], ("127.0.0.1", 1))
    assert not arrival.kernel
    assert abs(time.time_ns() - arrival.wall_ns) < NS_PER_S


@pytest.mark.parametrize("stamp_ns", [-5 * NS_PER_S, 3600 * NS_PER_S])
async def test_a_kernel_stamp_that_the_clock_contradicts_is_not_used(port: Port, stamp_ns: int) -> None:
    """The wall clock was set between the stamp and our look at it."""
    family = next(iter(port.udp._bound))
    at_ns = time.time_ns() - stamp_ns
    cmsg = (socket.SOL_SOCKET, 35, struct.pack("@ll", at_ns // NS_PER_S, at_ns % NS_PER_S))
    assert not port.udp._arrival(family, b"x", [cmsg], ("127.0.0.1", 1)).kernel


@pytest.mark.parametrize(
    "host",
    ["localhost", "example.org", "", "224.0.0.1", "ff02::1", "0.0.0.0", "::", "255.255.255.255", "1.2.3", "1.2.3.4 "],
)
def test_only_unicast_addresses_are_targets(host: str) -> None:
    assert target(host, 9) is None


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_none(host: str) -> None:
    assert target(host, 9) is None or host[0] in "0123456789abcdefABCDEF:"


@pytest.mark.parametrize(("host", "said"), [("localhost", "is not an IP address"), ("192.0.2.1", "assign")])
def test_an_address_that_is_not_ours_cannot_be_bound(host: str, said: str) -> None:
    with pytest.raises(OSError, match=said):
        bind_all(socket.SOCK_DGRAM, host, 0)


def test_clocks_read_apart_by_a_preemption_are_read_again() -> None:
    """5 ms between the two looks would have been 5 ms of round trip."""
    mono = iter([0, 0, 0, 5_000_000, 6_000_000, 6_000_400])  # the first two as the clocks are made
    wall = iter([0, 100_005_000_000, 100_006_000_200])
    assert Clocks(lambda: next(wall), lambda: next(mono)).offset_ns() == 100_000_000_000


@given(st.lists(st.integers(0, 3 * NS_PER_S), min_size=1, max_size=100))
def test_a_bucket_never_gives_more_than_burst_and_rate(gaps: list[int]) -> None:
    bucket, now_ns, given_out = TokenBucket(10.0, 5.0), 0, 0
    for gap in gaps:
        now_ns += gap
        given_out += bucket.take(now_ns)
    assert given_out <= 5 + 10 * now_ns / NS_PER_S + 1e-6


async def test_many_datagrams_go_at_once_as_far_as_the_system_takes_them(port: Port) -> None:
    packets = [bytes([number]) * 1000 for number in range(10)]
    assert port.udp.send_many(packets, to(port)) == 10
    port.udp.many_expected = True  # read by one wake-up
    assert [(await port.arrival()).data for _ in packets] == packets
    assert port.counts["udp_packets_sent"] == port.counts["udp_packets_received"] == 10
    assert port.counts["udp_bytes_sent"] == 10_000
    assert port.udp.dropped == 0


async def test_many_datagrams_go_nowhere_that_one_may_not_go(port: Port) -> None:
    port.udp.allowed = EgressPolicy(Scope.INTERNET)
    with pytest.raises(OSError, match="no address that this probe sends to"):
        port.udp.send_many([b"x"], to(port))
    assert port.counts["udp_not_allowed"] == 1
    assert port.counts["udp_packets_sent"] == 0


@linux
async def test_datagrams_that_found_no_room_are_counted(port: Port) -> None:
    port.udp._bound[socket.AF_INET].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    assert port.udp.send_many([bytes(1000)] * 40, to(port)) == 40
    assert 0 < port.udp.dropped < 40
