"""Two probes in one event loop on loopback measure each other for real: sockets, keys, windows, hops."""

from __future__ import annotations

import asyncio
import errno
import sys
import time
from collections import Counter
from typing import Any

import msgspec
import pytest
from paths_rig import ID_A, ID_B, PATIENCE_S, Node, introduce, peer, plan

from swarm_probe.measure import hop, hop_rounds
from swarm_probe.measure.hop_rounds import HopRounds
from swarm_probe.measure.paths import PathsConfig
from swarm_probe.owner_limits.egress_policy import Scope
from swarm_probe.udp.send_refusals import BLOCKED_AFTER
from swarm_probe.udp.udp_socket import UdpPort
from swarm_protocol.messages.probe_messages import UplinkLease
from swarm_protocol.messages.samples import HopSample, LinkSample, UplinkSample
from swarm_protocol.packets import stamp_packet
from swarm_protocol.units import NS_PER_MS

pytestmark = pytest.mark.usefixtures("hurry")


async def test_a_plan_from_before_the_join_is_measured_as_the_join_allows() -> None:
    a, b = Node(PathsConfig("127.0.0.1", scope=Scope.INTERNET)), Node(PathsConfig("127.0.0.1"))
    await a.paths.start()
    await b.paths.start()
    try:
        introduce(a, b)
        a.paths.joined("127.0.0.1", (), lambda _: None)
        assert (await a.first(LinkSample, lambda s: s.rtt_p50_ms is not None)).path == "direct"
        assert (await a.first(HopSample)).peer == ID_B
    finally:
        await a.paths.close()
        await b.paths.close()


async def test_two_probes_measure_each_others_round_trips_both_ways(pair: tuple[Node, Node]) -> None:
    a, b = pair
    introduce(a, b)
    for node, other in ((a, ID_B), (b, ID_A)):
        sample = await node.first(LinkSample, lambda s: s.rtt_p99_ms is not None)
        assert sample.peer == other
        assert sample.path == "direct"
        assert 0 < sample.sent <= 20
        assert (sample.lost, sample.lost_out, sample.lost_back) == (0, 0, 0)
        assert sample.rtt_min_ms is not None
        assert sample.rtt_p50_ms is not None
        assert sample.rtt_p95_ms is not None
        assert sample.rtt_p99_ms is not None
        assert sample.pdv_ms == pytest.approx(sample.rtt_p95_ms - sample.rtt_min_ms)
        assert 0 < sample.rtt_min_ms < 5.0  # of a busy machine the others say less
        assert sample.rtt_min_ms <= sample.rtt_p50_ms <= sample.rtt_p95_ms <= sample.rtt_p99_ms
        assert not sample.loaded


@pytest.mark.skipif(sys.platform != "linux", reason="departures are stamped on Linux only")
@pytest.mark.parametrize("follow_up", [True, False])
async def test_what_an_answer_takes_to_leave_is_no_part_of_the_round_trip_where_the_peer_follows_up(
    follow_up: bool, pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer leaves 8 ms after its T3; a peer of an older version is asked for nothing, and still answers."""
    encode = stamp_packet.encode_reflected

    def slowly(packet: stamp_packet.ReflectedPacket, key: bytes | None) -> bytes:
        time.sleep(0.008)
        return encode(packet, key)

    monkeypatch.setattr("swarm_probe.udp.stamp.stamp_reflector.stamp_packet.encode_reflected", slowly)
    a, b = pair
    a.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2, follow_up=follow_up)))
    b.paths.update(plan(peer(ID_A, a.paths, out=2, inn=1, measure=False)))
    # the kernel begins to stamp a moment after the first socket has asked for it
    sample = await a.first(LinkSample, lambda s: s.rtt_p50_ms is not None and s.timestamps == "kernel")
    assert sample.lost == 0
    assert sample.rtt_min_ms is not None
    assert (sample.rtt_min_ms < 8.0) is follow_up
    counts = a.paths.counters()
    size = stamp_packet.EXTENDED_BYTES if follow_up else stamp_packet.AUTH_BYTES
    assert counts["udp_bytes_sent"] == size * counts["udp_packets_sent"]
    assert counts["udp_bytes_received"] == size * counts["udp_packets_received"]


async def test_hop_rounds_that_end_by_an_error_of_ours_are_reported_and_continue(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    monkeypatch.setattr("swarm_probe.measure.paths.HOPS_AGAIN_S", 0.0)
    round_of, failed = HopRounds._round, False

    async def fails_once(rounds: HopRounds, *arguments: Any) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise ZeroDivisionError("a bug")
        await round_of(rounds, *arguments)

    monkeypatch.setattr(HopRounds, "_round", fails_once)
    monkeypatch.setattr("swarm_probe.measure.hop_rounds.MIN_EVERY_NS", 0)
    a.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2), hop_every_ms=50.0))
    b.paths.update(plan(peer(ID_A, a.paths, out=2, inn=1, measure=False)))
    assert (await a.first(HopSample)).peer == ID_B
    assert list(a.paths._supervisor.troubles) == ["measuring hops"]


@pytest.mark.parametrize("name", ["watching the line", "taking TCP connections (AF_INET)"])
async def test_long_lived_tasks_are_restarted(name: str, pair: tuple[Node, Node]) -> None:
    a, b = pair
    for node in pair:
        node.paths._supervisor._tasks[name].cancel()
    async with asyncio.timeout(PATIENCE_S):
        while any(name not in n.paths._supervisor.troubles or n.paths._supervisor.down for n in pair):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    introduce(a, b)
    assert (await a.first(HopSample)).peer == ID_B


async def test_a_hop_is_measured_and_is_in_the_next_link_sample(pair: tuple[Node, Node]) -> None:
    a, b = pair
    introduce(a, b)
    hop = await a.first(HopSample)
    assert (hop.peer, hop.size_bytes, hop.cadence_ms, hop.n) == (ID_B, 16_384, 5.0, 12)
    assert hop.first_ms is not None
    assert 0 < hop.min_ms <= hop.p50_ms <= hop.p95_ms <= hop.p99_ms
    assert hop.min_ms < 50.0
    link = await a.first(LinkSample, lambda s: s.hop_ms is not None)
    assert link.hop_ms == hop.p50_ms


async def test_a_prefill_chunk_is_measured_beside_the_decode_step_and_before_it(pair: tuple[Node, Node]) -> None:
    """The newest figure of a link stays the decode step's."""
    a, b = pair
    chunk = msgspec.structs.replace(plan(peer(ID_B, b.paths, out=1, inn=2)), prefill_bytes=131_072)
    a.paths.update(chunk)
    b.paths.update(plan(peer(ID_A, a.paths, out=2, inn=1)))
    decode = await a.first(HopSample, lambda s: s.phase == "decode")
    prefill = await a.first(HopSample, lambda s: s.phase == "prefill")
    assert (prefill.size_bytes, prefill.n, prefill.after_idle_ms) == (131_072, 3, None)
    assert prefill.at_ns <= decode.at_ns
    assert decode.after_idle_ms is not None


async def test_a_peer_that_never_answers_is_sent_and_lost_with_no_figures(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm_probe.udp.stamp.stamp_sender.REPLY_WAIT_NS", 50_000_000)
    a, b = pair
    a.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2)))  # b was not told of a
    sample = await a.first(LinkSample)
    assert sample.path == "none"
    assert sample.sent == sample.lost > 0
    assert sample.rtt_min_ms is sample.rtt_p50_ms is sample.pdv_ms is sample.jitter_rfc3550_ms is None
    assert b.paths.counters()["ignored_ssid"] >= sample.sent
    assert "stamp_answered" not in b.paths.counters()


async def test_another_key_gets_no_answer_by_udp_and_none_by_tcp(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm_probe.udp.stamp.stamp_sender.REPLY_WAIT_NS", 50_000_000)
    a, b = pair
    b.paths.update(plan(peer(ID_A, a.paths, out=2, inn=1, measure=False)))
    a.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2, stamp_key=b"x" * 32)))
    sample = await a.first(LinkSample)
    assert sample.lost == sample.sent > 0
    lease = UplinkLease(lease_id=1, peer=ID_B, max_bytes=1 << 20, expires_ms=5000.0)
    ok, detail, begun = await a.paths.run_uplink(lease)
    assert not ok
    assert not begun
    assert "closed" in detail
    counts = b.paths.counters()
    assert counts["ignored_hmac"] > 0
    assert counts["tcp_refused_notmember"] > 0


async def test_the_second_address_is_found_and_the_first_ones_silence_is_no_loss(pair: tuple[Node, Node]) -> None:
    a, b = pair
    hosts = ("127.0.0.9", "127.0.0.1")  # nobody listens at the first
    a.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2, hosts=hosts)))
    b.paths.update(plan(peer(ID_A, a.paths, out=2, inn=1, measure=False)))
    sample = await a.first(LinkSample, lambda s: s.rtt_p50_ms is not None)
    assert sample.lost == 0
    assert (await a.first(HopSample)).peer == ID_B


async def test_a_member_that_only_answers_measures_nothing(pair: tuple[Node, Node]) -> None:
    a, b = pair
    a.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2)))
    b.paths.update(plan(peer(ID_A, a.paths, out=2, inn=1, measure=False)))
    await a.first(LinkSample, lambda s: s.rtt_p50_ms is not None)
    assert b.samples == []
    assert "stamp_sent" not in b.paths.counters()


async def test_an_unchanged_peer_continues_under_a_new_plan_and_a_removed_one_stops(pair: tuple[Node, Node]) -> None:
    a, b = pair
    introduce(a, b)
    await a.first(LinkSample)
    sent = a.paths.counters()["stamp_sent"]
    introduce(a, b)
    a.samples.clear()
    await a.first(LinkSample)
    assert a.paths.counters()["stamp_sent"] > sent
    assert "ignored_replay" not in b.paths.counters()  # its sequence did not begin again
    b.paths.update(plan())
    a.samples.clear()
    answered = b.paths.counters()["stamp_answered"]
    await a.first(LinkSample)
    assert b.paths.counters()["stamp_answered"] == answered


async def test_ipv6_is_measured_too() -> None:
    a, b = Node(PathsConfig("::1")), Node(PathsConfig("::1"))
    try:
        await a.paths.start()
        await b.paths.start()
        if a.paths.udp_error or a.paths.tcp_error:
            pytest.skip(f"no IPv6 loopback here: {a.paths.udp_error}")
        a.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2, hosts=("::1",))))
        b.paths.update(plan(peer(ID_A, a.paths, out=2, inn=1, hosts=("::1",), measure=False)))
        assert (await a.first(LinkSample, lambda s: s.rtt_p50_ms is not None)).lost == 0
        assert (await a.first(HopSample)).n == 12
    finally:
        await a.paths.close()
        await b.paths.close()


async def test_with_every_address_bound_both_families_share_one_port() -> None:
    node = Node(PathsConfig())
    try:
        await node.paths.start()
        assert node.paths.udp_error is None
        assert node.paths.tcp_error is None
        assert node.paths.udp_port > 0
        assert node.paths.tcp_port > 0
    finally:
        await node.paths.close()


async def test_without_udp_hops_and_transfers_continue(pair: tuple[Node, Node]) -> None:
    _, b = pair
    blocked = Node(PathsConfig("127.0.0.1", udp_port=b.paths.udp_port))  # taken
    await blocked.paths.start()
    try:
        assert blocked.paths.udp_port == 0
        assert blocked.paths.udp_error == (
            f"cannot use UDP port {b.paths.udp_port} of 127.0.0.1 (address already in use); "
            "round trips are not measured"
        )
        blocked.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2)))
        b.paths.update(plan(peer(ID_A, blocked.paths, out=2, inn=1)))
        assert (await blocked.first(HopSample)).peer == ID_B
        assert (await b.first(HopSample)).peer == ID_A
        lease = UplinkLease(lease_id=1, peer=ID_B, max_bytes=2 << 20, expires_ms=PATIENCE_S * 1000)
        assert (await blocked.paths.run_uplink(lease))[0]
        uplink = await blocked.first(UplinkSample)
        assert uplink.rtt_idle_ms is uplink.rtt_loaded_ms is None
        assert not [s for s in blocked.samples if isinstance(s, LinkSample)]
    finally:
        await blocked.paths.close()


async def test_a_firewall_that_refuses_udp_is_named_and_its_opening_noticed(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    refused = asyncio.Event()
    refusals = Counter[UdpPort]()

    def refuse(port: UdpPort, *_: object, **__: object) -> OSError:
        refusals[port] += 1
        if len(refusals) == 2 and min(refusals.values()) >= BLOCKED_AFTER:
            refused.set()
        return PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as firewall:
        firewall.setattr(UdpPort, "send", refuse)
        introduce(a, b)
        await a.first(HopSample)
        await asyncio.wait_for(refused.wait(), PATIENCE_S)
        assert a.paths.udp_error == (
            "UDP cannot be sent from here (operation not permitted); allow it in the firewall to measure round trips"
        )
        assert not [s for s in a.samples if isinstance(s, LinkSample)]
    assert (await a.first(LinkSample)).lost == 0
    assert a.paths.udp_error is None


async def test_a_round_that_a_transfer_cuts_short_is_done_again_soon_and_not_a_whole_rhythm_later(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    measure, often = hop.measure, hop_rounds.RETRIES + 2
    cut: list[int] = []

    async def cut_short(*arguments: Any, **options: Any) -> hop.HopRound | None:
        if len(cut) == often:
            return await measure(*arguments, **options)
        cut.append(1)
        stream, size, cadence_ns, mono_ns, _ = arguments
        return await measure(stream, size, cadence_ns, mono_ns, lambda: True, **options)  # one runs from now on

    monkeypatch.setattr(hop, "measure", cut_short)
    monkeypatch.setattr(hop_rounds, "RETRY_NS", 50 * NS_PER_MS)
    a.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2), hop_every_ms=1e9))
    b.paths.update(plan(peer(ID_A, a.paths, out=2, inn=1, measure=False)))
    assert (await a.first(HopSample)).peer == ID_B
    assert a.paths.counters()["hops_interrupted"] == len(cut) == often
    assert "hops_failed" not in a.paths.counters()  # nobody did anything wrong


async def test_a_plan_that_only_changes_the_rhythm_is_no_reason_for_another_round_of_hops(
    pair: tuple[Node, Node],
) -> None:
    """Each member that joins stretches the rhythm of all; a round for each join would eat a volunteer's line."""
    a, b = pair
    introduce(a, b)
    await a.first(HopSample)
    a.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2), hop_every_ms=50_000.0, window_ms=200.0))
    a.samples.clear()
    await a.first(LinkSample)
    await a.first(LinkSample, lambda s: s.at_ns > a.samples[0].at_ns)  # type: ignore[union-attr]
    assert a.paths.counters()["hops_measured"] == 1
    changed = msgspec.structs.replace(plan(peer(ID_B, b.paths, out=1, inn=2)), hop_bytes=8192)
    a.paths.update(changed)
    assert (await a.first(HopSample)).size_bytes == 8192


async def test_a_host_name_is_never_looked_up(pair: tuple[Node, Node]) -> None:
    a, b = pair
    a.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2, hosts=("localhost", "224.0.0.1", "0.0.0.0"))))
    lease = UplinkLease(lease_id=1, peer=ID_B, max_bytes=1 << 20, expires_ms=1000.0)
    assert await a.paths.run_uplink(lease) == (False, "bbbb has no TCP port to send to", False)


async def test_a_peer_on_a_forbidden_cable_is_reported_and_not_sent_to():
    node = Node(PathsConfig("127.0.0.1"))
    await node.paths.start()
    try:
        node.paths.update(plan(peer("b" * 16, node.paths, out=1, inn=2, hosts=("169.254.7.2",))))
        sample = await node.first(LinkSample)
        assert (sample.path, sample.why, sample.sent) == ("none", "link-local", 0)
        assert node.paths.counters().get("udp_packets_sent", 0) == 0
    finally:
        await node.paths.close()
