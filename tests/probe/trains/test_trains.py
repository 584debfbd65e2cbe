"""Trains between two probes on loopback, under a lease: sockets, orders, accounting, and peers without them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from swarm_probe.measure.dialer import Dialer
from swarm_probe.measure.paths import Paths, PathsConfig
from swarm_probe.measure.peer import PeerState
from swarm_probe.measure.transfers.leased_transfers import Outcome, _train_test
from swarm_probe.owner_limits.traffic_budget import TrafficBudget
from swarm_probe.sockets import Target
from swarm_probe.streams.channel import Channel
from swarm_probe.streams.tcp_endpoint import Purpose
from swarm_probe.trains import wire
from swarm_probe.trains.port import TrainPort
from swarm_probe.trains.rounds import FIRST_PACKETS, MIN_PACKET_BYTES, PACKET_BYTES, TCP_SHARE
from swarm_probe.udp.udp_socket import Arrival, UdpPort
from swarm_protocol.messages.probe_messages import Peer, Plan, UplinkGrant, UplinkLease
from swarm_protocol.messages.samples import LinkSample, ProbeSample, Transport, UplinkSample

ID_A, ID_B = "a" * 16, "b" * 16
KEY = bytes(range(32))
PATIENCE_S = 20.0
MAX_BYTES = 2 << 20
SLOW_MBPS = 5.0  # as late as this machine may be, a queue of such a path is not empty


class Node:
    def __init__(self, config: PathsConfig) -> None:
        self.samples: list[ProbeSample] = []
        self.budget = TrafficBudget(daily_bytes=None)
        self.answered = asyncio.Event()
        self.paths = Paths(config, self._emit, traffic_budget=self.budget)

    def _emit(self, sample: ProbeSample) -> None:
        self.samples.append(sample)
        if isinstance(sample, LinkSample) and sample.rtt_p50_ms is not None:
            self.answered.set()

    def uplink(self) -> UplinkSample:
        (sample,) = [sample for sample in self.samples if isinstance(sample, UplinkSample)]
        return sample

    def booked(self, kind: str) -> tuple[int, int]:
        """Return IP bytes (sent, received)."""
        self.paths._trips.book_others()
        return self.budget.totals(time.time_ns()).get(kind, (0, 0))


def plan(other: Paths, node_id: str, out: int, inn: int, *, trains: bool) -> Plan:
    peer = Peer(
        node_id=node_id,
        name=node_id[:4],
        hosts=("127.0.0.1",),
        udp_port=other.udp_port,
        tcp_port=other.tcp_port,
        stamp_key=KEY,
        ssid_out=out,
        ssid_in=inn,
        trains=trains,
    )
    return Plan(
        revision=1,
        peers=(peer,),
        stamp_interval_ms=30.0,
        window_ms=300.0,
        hop_bytes=1024,
        hop_cadence_ms=5.0,
        hop_every_ms=86_400_000.0,
        host_every_ms=1000.0,
    )


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Node, Node]]:
    """The second takes transfers only where the collector has announced them."""
    a, b = Node(PathsConfig("127.0.0.1")), Node(PathsConfig("127.0.0.1", grants=True))
    await a.paths.start()
    await b.paths.start()
    yield a, b
    await a.paths.close()
    await b.paths.close()


async def run(
    a: Node, b: Node, *, trains: bool = True, granted: int = MAX_BYTES, expires_ms: float = PATIENCE_S * 1000
) -> Outcome:
    a.paths.update(plan(b.paths, ID_B, 1, 2, trains=trains))
    b.paths.update(plan(a.paths, ID_A, 2, 1, trains=True))
    async with asyncio.timeout(PATIENCE_S):
        await a.answered.wait()
    b.paths.grant(UplinkGrant(lease_id=1, peer=ID_A, max_bytes=granted, expires_ms=PATIENCE_S * 1000))
    return await a.paths.run_uplink(UplinkLease(lease_id=1, peer=ID_B, max_bytes=MAX_BYTES, expires_ms=expires_ms))


def slow_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stamp the packets of trains as they would arrive behind a bottleneck of SLOW_MBPS."""
    receive, free_ns = TrainPort.receive, 0.0

    def slowly(port: TrainPort, arrival: Arrival) -> bool:
        nonlocal free_ns
        if wire.is_train(arrival.data):
            free_ns = max(free_ns, arrival.wall_ns) + PACKET_BYTES * 8e3 / SLOW_MBPS
            arrival = replace(arrival, wall_ns=round(free_ns))
        return receive(port, arrival)

    monkeypatch.setattr(TrainPort, "receive", slowly)


async def test_trains_measure_a_path_and_every_byte_is_in_both_records(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    slow_down(monkeypatch)
    ok, detail, _ = await run(a, b)
    assert ok, detail
    sample = a.uplink()
    assert (sample.transport, sample.bound) == ("udp", False)
    assert sample.mbps == pytest.approx(SLOW_MBPS * TCP_SHARE, rel=0.03)
    assert sample.sent_bytes <= MAX_BYTES
    assert sample.sent_bytes % PACKET_BYTES == 0
    sent, _ = a.booked("uplink")
    _, received = b.booked("uplink")
    assert sample.sent_bytes < sent < 1.02 * sample.sent_bytes  # the connection's orders and headers beside it
    assert 0.9 * sample.sent_bytes < received < 1.02 * sample.sent_bytes
    for node in pair:
        assert max(node.booked("other")) < PACKET_BYTES
    assert b.paths.counters().get("tcp_connections_broken", 0) == 0


@pytest.mark.parametrize(("segment", "packet"), [(1240, 1280), (1460, PACKET_BYTES), (536, MIN_PACKET_BYTES)])
def test_packets_are_no_larger_than_those_of_the_connection(segment: int, packet: int) -> None:
    """Tunnels of 1280 bytes would cut each into two, and of a packet that lost one of them the other was carried."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        client.connect(server.getsockname())
        test = _train_test(SimpleNamespace(kernel=client), Target(socket.AF_INET, server.getsockname()), MAX_BYTES)  # type: ignore[arg-type]
    assert test.packet_bytes == packet
    assert test.tcp_share == pytest.approx((segment - 12) / (segment + 40))


async def test_a_path_faster_than_trains_is_measured_by_a_transfer_on_the_same_connection(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    # as if the packets had come as fast as they were sent: loopback, without the pauses of this machine
    monkeypatch.setattr("swarm_probe.trains.rounds.TrainTest.too_fast", property(lambda test: len(test.rates) == 1))
    dialled: list[Purpose] = []
    dial = Dialer.dial

    async def noted(dialer: Dialer, member: PeerState, purpose: Purpose, size: int) -> tuple[Channel, Transport]:
        dialled.append(purpose)
        return await dial(dialer, member, purpose, size)

    monkeypatch.setattr(Dialer, "dial", noted)
    ok, detail, _ = await run(a, b)
    assert ok, detail
    sample = a.uplink()
    assert sample.transport == "tcp"
    assert FIRST_PACKETS * PACKET_BYTES < sample.sent_bytes <= MAX_BYTES
    assert a.paths.counters()["tcp_bytes_sent"] > 256 << 10
    # hop rounds have connections of their own
    assert [purpose for purpose in dialled if purpose in (Purpose.UPLINK, Purpose.TRAINS)] == [Purpose.TRAINS]


async def test_where_no_packet_of_a_train_arrives_a_transfer_takes_the_rest(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall lets small packets through and drops the others."""
    a, b = pair
    monkeypatch.setattr(UdpPort, "send_many", lambda port, packets, to: len(packets))
    monkeypatch.setattr("swarm_probe.trains.exchange.SILENCE_NS", 1_000_000)
    ok, detail, _ = await run(a, b)
    assert ok, detail
    assert a.uplink().transport == "tcp"
    assert a.uplink().sent_bytes > FIRST_PACKETS * PACKET_BYTES


async def test_to_a_peer_of_an_older_version_no_train_is_sent(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair

    def never(*_: object) -> int:
        raise AssertionError("a train")

    monkeypatch.setattr(UdpPort, "send_many", never)
    ok, detail, _ = await run(a, b, trains=False)
    assert ok, detail
    assert a.uplink().transport == "tcp"


async def test_trains_that_the_collector_has_not_announced_to_the_other_end_are_refused(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    ok, detail, _ = await run(a, b, granted=MAX_BYTES - 1)
    assert not ok
    assert "closed the connection" in detail or "was closed" in detail
    assert b.paths.counters()["uplinks_not_granted"] == 1
    assert a.booked("uplink")[0] < PACKET_BYTES


async def test_a_lease_that_runs_out_during_the_trains_is_told_as_begun(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector counts its bytes, and does not pass on the slot before they have left the queues."""
    a, b = pair

    async def hangs(*_: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr("swarm_probe.measure.transfers.leased_transfers.exchange.send", hangs)
    monkeypatch.setattr("swarm_probe.measure.transfers.leased_transfers.CLOSING_NS", 0)
    outcome = await run(a, b, expires_ms=2_500.0)
    assert outcome == (False, "bbbb: the lease ran out during the trains", True)


async def test_packets_that_no_test_asked_for_are_strangers(pair: tuple[Node, Node]) -> None:
    """No probe collects packets from a sender without this test's token."""
    a, b = pair
    a.paths.update(plan(b.paths, ID_B, 1, 2, trains=True))
    b.paths.update(plan(a.paths, ID_A, 2, 1, trains=True))
    async with asyncio.timeout(PATIENCE_S):
        await a.answered.wait()
    port = b.paths._trips.trains
    with port.collect("aaaa", 10) as collection:
        forged = wire.encode_packet(wire.Packet(b"unknown!", 0, 0), bytes(1000))
        asked = wire.encode_packet(wire.Packet(collection.token, 0, 3), bytes(1000))
        to = a.paths._members[ID_B].rtt.targets[0]  # type: ignore[union-attr]
        assert a.paths._trips.trains.send([forged, asked], to, "bbbb") == 2
        async with asyncio.timeout(PATIENCE_S):
            while not collection.packets:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert [(train, [number for number, _ in reported]) for train, reported in collection.trains.items()] == [
            (0, [3])
        ]
    assert b.booked("stranger")[1] == len(forged) + 28


async def test_a_collection_takes_no_more_packets_than_were_agreed(pair: tuple[Node, Node]) -> None:
    a, _ = pair
    port = a.paths._trips.trains
    arrival = Arrival(b"", None, 5, True, 0, ())  # type: ignore[arg-type]
    with port.collect("bbbb", 2) as collection:
        packets = [wire.encode_packet(wire.Packet(collection.token, 0, number), b"") for number in range(3)]
        assert [port.receive(replace(arrival, data=data)) for data in packets] == [True, True, False]
        collection.source = None  # nothing came from anywhere
    assert not port.receive(replace(arrival, data=packets[0]))
