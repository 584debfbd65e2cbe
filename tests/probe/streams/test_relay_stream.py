"""Test hops via the collector: two probes connected only by a hub that relays messages."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from types import SimpleNamespace
from unittest.mock import AsyncMock, Mock

import msgspec
import pytest

from swarm_probe.measure import hop
from swarm_probe.measure.dialer import Dialer
from swarm_probe.measure.peer import PeerState
from swarm_probe.sockets import Target, target
from swarm_probe.streams.channel import Busy, Channel, NoAnswer, NotMember, PeerError, Unreachable
from swarm_probe.streams.relay_stream import MAX_FLOWS, MAX_WAITING_BYTES, RelayPort
from swarm_probe.streams.tcp_endpoint import Caller, Purpose, Service, Stream, TcpPeer
from swarm_protocol import hop_round
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import (
    MAX_RELAY_BYTES,
    Peer,
    Relay,
    decode_from_collector,
    decode_from_probe,
)

A, B = "a" * 16, "b" * 16
KEY = bytes(range(32))


class Hub:
    """The collector's part, and the two ends. Messages cross as bytes, as they do on the wire."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {A: Counter(), B: Counter()}
        self.open = True
        self.passed: list[Relay] = []
        self.ports: dict[str, RelayPort] = {}
        for node in (A, B):
            peer = TcpPeer({Purpose.HOP: Service(self._serve, hop.MAX_MESSAGE_BYTES, lambda: False)}, self.counts[node])
            peer.announce([Caller(B if node == A else A, 7, KEY)])
            self.ports[node] = RelayPort(self._sender(node), peer.converse, self.counts[node])

    def _sender(self, node: str):
        async def send(message: Relay) -> bool:
            if not self.open:
                return False
            sent = decode_from_probe(encode(message))
            assert isinstance(sent, Relay)
            self.passed.append(sent)
            arrived = decode_from_collector(encode(msgspec.structs.replace(sent, peer=node)))
            assert isinstance(arrived, Relay)
            await asyncio.sleep(0)
            self.ports[sent.peer].receive(arrived)
            return True

        return send

    async def _serve(self, stream: Channel, _peer: str, size: int) -> None:
        await hop.serve(stream, size, lambda: 0)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    made = Hub()
    yield made
    for port in made.ports.values():
        await port.close()


async def test_a_round_of_hops_goes_by_way_of_the_collector(hub: Hub):
    stream = await hub.ports[A].dial(Caller(B, 7, KEY), Purpose.HOP, 20_000)
    clock = iter(range(0, 10**12, 1_000_000))
    measured = await hop.measure(stream, 20_000, 1, lambda: next(clock), lambda: False)
    stream.close()
    assert measured is not None
    assert len(measured.ordered_ns) >= hop_round.MESSAGES_MIN
    assert all(len(message.data) <= MAX_RELAY_BYTES for message in hub.passed)


async def test_a_caller_with_another_key_is_not_served(hub: Hub):
    with pytest.raises((NotMember, Unreachable)):
        await hub.ports[A].dial(Caller(B, 7, bytes(32)), Purpose.HOP, 1000)
    assert hub.counts[B]["tcp_refused_notmember"] == 1


async def test_without_a_collector_it_says_so_at_once(hub: Hub):
    hub.open = False
    with pytest.raises(Unreachable, match="there is no collector to go through"):
        await hub.ports[A].dial(Caller(B, 7, KEY), Purpose.HOP, 1000)


async def test_a_message_that_is_longer_than_one_may_be_goes_in_pieces(hub: Hub):
    stream = await hub.ports[A].dial(Caller(B, 7, KEY), Purpose.HOP, MAX_RELAY_BYTES * 2)
    before = len(hub.passed)
    await stream.write(bytes(MAX_RELAY_BYTES * 2))
    mine = [message for message in hub.passed[before:] if message.peer == B]
    assert [len(message.data) for message in mine] == [MAX_RELAY_BYTES] * 2


async def test_flows_of_others_and_what_waits_in_each_are_bounded(hub: Hub):
    port = hub.ports[B]
    for flow in range(MAX_FLOWS + 3):
        port.receive(Relay(peer=A, flow=flow, opened_here=True, data=b"?"))
    port.receive(Relay(peer=A, flow=99, opened_here=False, data=b"an answer to nothing"))
    assert hub.counts[B]["relay_ignored"] == 4
    stream = hub.ports[A]._begin((B, 5, True))
    for _ in range(MAX_WAITING_BYTES // MAX_RELAY_BYTES + 1):
        stream.take(Relay(peer=B, flow=5, opened_here=False, data=bytes(MAX_RELAY_BYTES)))
    with pytest.raises(Unreachable):
        await stream.write(b"more")


@pytest.mark.parametrize(
    ("said", "transport"),
    [
        ({"10.0.0.1": NoAnswer("no answer"), "10.0.0.2": NoAnswer("refused")}, "relay"),
        # one that answers and breaks off may not have heard of us yet: it is no reason for an hour of detours
        ({"10.0.0.1": Unreachable("closed 33 bytes early"), "10.0.0.2": NoAnswer("no answer")}, None),
        ({"10.0.0.1": NoAnswer("no answer"), "10.0.0.2": Busy("later")}, None),
    ],
)
async def test_the_collector_is_the_way_only_where_tcp_gets_no_answer_at_all(
    said: dict[str, PeerError], transport: str | None, monkeypatch: pytest.MonkeyPatch
):
    async def dial(to: Target, *_: object) -> Stream:
        raise said[to.sockaddr[0]]

    monkeypatch.setattr("swarm_probe.measure.dialer.dial", dial)
    peer = Peer(
        node_id=B, name="b", hosts=tuple(said), udp_port=0, tcp_port=7, stamp_key=KEY, ssid_out=1, ssid_in=2, relay=True
    )
    member = PeerState(peer, tuple(found for host in said if (found := target(host, 7)) is not None))
    trips = SimpleNamespace(allowed=SimpleNamespace(may_dial=lambda *_: True), take_quic=None)
    dialer = Dialer(trips, None, Counter(), lambda: 1)  # type: ignore[arg-type]
    stream = object()
    dialer.relay = SimpleNamespace(dial=AsyncMock(return_value=stream))  # type: ignore[assignment]
    if transport is None:
        with pytest.raises(PeerError):
            await dialer.dial(member, Purpose.HOP, 1000)
        assert member.tcp_again_ns == 0
    else:
        assert await dialer.dial(member, Purpose.HOP, 1000) == (stream, transport)
        assert member.tcp_again_ns > 0


async def test_no_hop_takes_the_detour_while_a_hole_is_being_punched():
    """The pair's only figure for a whole rhythm would be that of the detour."""
    peer = Peer(node_id=B, name="b", hosts=(), udp_port=0, tcp_port=7, stamp_key=KEY, ssid_out=1, ssid_in=2, relay=True)
    session = SimpleNamespace(host=None)
    member = PeerState(peer, (), rtt=SimpleNamespace(session=session))  # type: ignore[arg-type]
    punching = Mock(return_value=True)
    trips = SimpleNamespace(take_quic=None, punching=punching)
    dialer = Dialer(trips, None, Counter(), lambda: 1)  # type: ignore[arg-type]
    stream = object()
    dialer.relay = SimpleNamespace(dial=AsyncMock(return_value=stream))  # type: ignore[assignment]
    with pytest.raises(NoAnswer, match="being punched"):
        await dialer.dial(member, Purpose.HOP, 1000)
    punching.return_value = False
    assert await dialer.dial(member, Purpose.HOP, 1000) == (stream, "relay")


async def test_an_address_that_is_silent_holds_up_none_of_the_others(monkeypatch: pytest.MonkeyPatch):
    """Two private addresses of a member behind a router once took ten seconds before anything else was tried."""
    ended: list[str] = []
    stream = object()

    async def dial(to: Target, *_: object) -> object:
        if to.sockaddr[0] == "10.0.0.2":
            return stream
        try:
            return await asyncio.Event().wait()
        finally:
            ended.append(to.sockaddr[0])

    monkeypatch.setattr("swarm_probe.measure.dialer.dial", dial)
    monkeypatch.setattr("swarm_probe.measure.dialer.STAGGER_S", 0.01)
    peer = Peer(node_id=B, name="b", hosts=(), udp_port=0, tcp_port=7, stamp_key=KEY, ssid_out=1, ssid_in=2)
    member = PeerState(
        peer, tuple(found for host in ("10.0.0.1", "10.0.0.2") if (found := target(host, 7)) is not None)
    )
    allowed = SimpleNamespace(may_dial=lambda *_: True, answered=lambda *_: None)
    dialer = Dialer(SimpleNamespace(allowed=allowed, take_quic=None), None, Counter(), lambda: 1)  # type: ignore[arg-type]
    assert await dialer.dial(member, Purpose.HOP, 1000) == (stream, "tcp")
    assert ended == ["10.0.0.1"]
    assert member.tcp_first == 1  # the next call begins there
