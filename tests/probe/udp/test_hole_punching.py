"""Round trips between the UDP ports of two real probes: over IPv6, to an address that was not announced, and through a
hole, with hops and transfers over QUIC."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest

from swarm_probe.measure.dialer import QUIC
from swarm_probe.measure.paths import Paths, PathsConfig
from swarm_protocol.messages.probe_messages import Mapped, Peer, Plan, UplinkLease
from swarm_protocol.messages.samples import HopSample, LinkSample, ProbeSample, UplinkSample

A, B = "a" * 16, "b" * 16
KEY = bytes(range(32))
WAIT_S = 20.0
S = TypeVar("S")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as made:
            made.bind(("::1", 0))
    except OSError:
        return False
    return True


class Two:
    """Two probes of one host that know each other from their plans."""

    def __init__(self, host: str) -> None:
        self.samples: dict[str, list[ProbeSample]] = {A: [], B: []}
        self.seen = asyncio.Event()
        self.paths = {node: Paths(PathsConfig(bind_host=host), self._emit(node)) for node in (A, B)}

    def _emit(self, node: str):
        def emit(sample: ProbeSample) -> None:
            self.samples[node].append(sample)
            self.seen.set()

        return emit

    def tell(self, node: str, hosts: tuple[str, ...], port: int, *, hop_bytes: int = 1000, **changes: object) -> None:
        """Give `node` the other's address."""
        other = B if node == A else A
        mine, theirs = (7, 9) if node == A else (9, 7)
        peer = Peer(
            node_id=other, name=other[:1], hosts=hosts, udp_port=port, tcp_port=0, stamp_key=KEY, ssid_out=mine,
            ssid_in=theirs, **changes,  # type: ignore[arg-type]
        )  # fmt: skip
        self.paths[node].update(
            Plan(
                revision=1, peers=(peer,), stamp_interval_ms=50.0, window_ms=300.0, hop_bytes=hop_bytes,
                hop_cadence_ms=20.0, hop_every_ms=60_000.0, host_every_ms=60_000.0,
            )
        )  # fmt: skip

    async def sample(self, node: str, kind: type[S]) -> S:
        """The first of this kind."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for sample in self.samples[node]:
                    if isinstance(sample, kind):
                        return sample
                self.seen.clear()
                await self.seen.wait()

    async def link(self, node: str, *paths: str) -> LinkSample:
        """The next sample of `node` over one of these paths, with an answer."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for sample in self.samples[node]:
                    if isinstance(sample, LinkSample) and sample.path in paths and sample.rtt_p50_ms is not None:
                        return sample
                self.seen.clear()
                await self.seen.wait()


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm_probe.measure.hop_rounds.RETRY_NS", 200_000_000)


@pytest.fixture
async def two(request: pytest.FixtureRequest) -> AsyncIterator[Two]:
    made = Two(request.param)
    for paths in made.paths.values():
        await paths.start()
    yield made
    for paths in made.paths.values():
        await paths.close()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize("two", ["::1"], indirect=True)
async def test_round_trips_over_ipv6_are_measured_like_any(two: Two):
    for node, other in ((A, B), (B, A)):
        two.tell(node, ("::1",), two.paths[other].udp_port)
    for node in (A, B):
        sample = await two.link(node, "direct")
        assert sample.lost == 0
        assert sample.rtt_min_ms is not None
        assert 0 < sample.rtt_min_ms < 50
        assert sample.ttl_out == 255  # the hop limit, as it arrived


@pytest.mark.parametrize("two", ["127.0.0.1"], indirect=True)
async def test_a_peer_is_found_by_its_signed_packets_if_the_announced_address_is_wrong(two: Two):
    """As an open node finds one behind a hard NAT: its port for us is another than the one STUN was shown."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        wrong = nobody.getsockname()[1]
        two.tell(A, ("127.0.0.1",), wrong, nat="symmetric", mapped=(Mapped("127.0.0.1", wrong),))
        two.tell(B, ("127.0.0.1",), two.paths[A].udp_port, nat="none")
        found = await two.link(A, "punched")
        assert found.lost == 0  # what went to the wrong address is no loss of this path
        assert (await two.link(B, "direct")).lost == 0


@pytest.mark.parametrize("two", ["127.0.0.1"], indirect=True)
async def test_a_peer_that_moves_continues_with_the_session_it_had(two: Two):
    two.tell(A, ("127.0.0.1",), two.paths[B].udp_port)
    two.tell(B, ("127.0.0.1",), two.paths[A].udp_port)
    await two.link(A, "direct")
    sent = two.paths[A].counters()["stamp_sent"]
    port = two.paths[B].udp_port
    moved = (Mapped("127.0.0.1", port),)
    two.tell(A, ("127.0.0.2",), port, nat="endpoint-independent", mapped=moved)
    began_ns = time.time_ns()
    two.samples[A].clear()
    sample = await two.link(A, "punched")
    assert sample.at_ns > began_ns
    assert two.paths[A].counters()["stamp_sent"] > sent
    assert sample.lost == 0


@pytest.mark.parametrize("two", ["127.0.0.1"], indirect=True)
async def test_replayed_or_unsigned_packets_teach_no_address(two: Two):
    """A probe sends only to addresses from the plan or from a member's own fresh packet."""
    two.tell(A, ("127.0.0.1",), 9, nat="symmetric", mapped=(Mapped("127.0.0.1", 9),))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.setblocking(False)
        request = bytes(24) + b"\x00\x01\x00\x09" + bytes(84)  # of B's session, without its key
        for _ in range(20):
            stranger.sendto(request, ("127.0.0.1", two.paths[A].udp_port))
        # what B signs comes after them: once that is answered, they have all been looked at
        two.tell(B, ("127.0.0.1",), two.paths[A].udp_port, nat="none")
        await two.link(B, "direct")
        assert two.paths[A].counters()["ignored_hmac"] == 20
        with pytest.raises(BlockingIOError):
            stranger.recv(100)


def punched_pair(two: Two, hop_bytes: int = 16_384) -> None:
    """Neither has a TCP port for the other; both are reached through a hole."""
    for node, other in ((A, B), (B, A)):
        port = two.paths[other].udp_port
        mapped = (Mapped("127.0.0.1", port),)
        hole = {"nat": "endpoint-independent", "mapped": mapped, "quic": True}
        two.tell(node, ("127.0.0.1",), port, hop_bytes=hop_bytes, **hole)


quic = pytest.mark.skipif(not QUIC, reason="aioquic is missing; pip install 'swarmtop[quic]'")


@quic
@pytest.mark.parametrize("two", ["127.0.0.1"], indirect=True)
async def test_a_hop_goes_over_quic_through_the_hole_and_says_so(two: Two):
    punched_pair(two)
    for node in (A, B):
        hop = await two.sample(node, HopSample)
        assert hop.transport == "quic"
        assert hop.size_bytes == 16_384
        assert 0 < hop.min_ms <= hop.p50_ms
        # it is no sign that TCP would pass
        assert (await two.link(node, "punched")).hop_ms is None


@quic
@pytest.mark.parametrize("two", ["127.0.0.1"], indirect=True)
async def test_a_rate_over_quic_is_a_lower_bound_whatever_the_two_ends_agree_on(two: Two):
    punched_pair(two)
    await two.link(A, "punched")
    done, line, _ = await two.paths[A].run_uplink(
        UplinkLease(lease_id=1, peer=B, max_bytes=1 << 20, expires_ms=20_000.0)
    )
    assert done, line
    rate = await two.sample(A, UplinkSample)
    assert (rate.transport, rate.bound) == ("quic", True)
    assert rate.sent_bytes <= 1 << 20
    assert rate.mbps > 1


@quic
@pytest.mark.parametrize("two", ["127.0.0.1"], indirect=True)
async def test_quic_is_spoken_only_with_addresses_that_sent_a_signed_packet(two: Two):
    """A stranger's Initial gets no answer: 1,200 bytes for nothing, and no amplifier."""
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection

    punched_pair(two)
    await two.link(A, "punched")
    stranger = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["swarmtop"]))
    to = ("127.0.0.1", two.paths[A].udp_port)
    stranger.connect(to, now=0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.setblocking(False)
        before = two.paths[A].counters().get("ignored_length", 0)
        for data, _ in stranger.datagrams_to_send(now=0.0):
            made.sendto(data, to)
        two.samples[A].clear()
        await two.link(A, "punched")  # what came before it has been looked at
        assert two.paths[A].counters()["ignored_length"] > before
        with pytest.raises(BlockingIOError):
            made.recv(2000)


def test_a_probe_that_punches_nothing_loads_no_quic():
    code = (
        "import sys\nimport swarm_probe.daemon, swarm_probe.measure.paths\n"
        "print([m for m in sys.modules if m in BANNED])"
    )
    banned = ("aioquic", "cryptography", "numpy", "torch", "textual")
    done = subprocess.run(
        [sys.executable, "-c", code.replace("BANNED", repr(banned))], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@quic
@pytest.mark.parametrize("two", ["127.0.0.1"], indirect=True)
async def test_a_message_too_large_for_quic_to_say_something_of_the_path_is_not_sent(two: Two):
    punched_pair(two, hop_bytes=64 << 10)
    await two.link(A, "punched")
    async with asyncio.timeout(WAIT_S):
        while not two.paths[A].counters().get("hops_not_by_quic"):
            two.seen.clear()
            await two.seen.wait()
    assert not any(isinstance(sample, HopSample) for sample in two.samples[A])
