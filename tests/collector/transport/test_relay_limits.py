"""What the collector relays between members, and how little of it."""

from __future__ import annotations

from pathlib import Path

from collector_fixtures import id_of
from collector_rig import collector

from swarm_collector.transport.relay_limits import BURST_BYTES, MEMBER_BURST_BYTES, RelayLimits
from swarm_protocol.messages.probe_messages import Relay
from swarm_protocol.units import NS_PER_S

ROUND_BYTES = 13 * 16_384


def test_a_member_has_rounds_of_hops_and_no_tunnel():
    relays = RelayLimits()
    passed = sum(relays.may_pass("kiln", 16_384, 1) for _ in range(1000)) * 16_384
    assert 4 * ROUND_BYTES < passed <= MEMBER_BURST_BYTES
    assert relays.refused
    assert relays.may_pass("kiln", 16_384, 1 + 60 * NS_PER_S)


def test_all_together_stay_below_what_a_small_line_carries():
    relays = RelayLimits()
    passed = sum(relays.may_pass(f"node-{i}", 40_000, 1) for i in range(1000)) * 40_000
    assert passed <= BURST_BYTES


async def test_bytes_reach_only_the_named_member_and_name_the_sender(tmp_path: Path):
    async with collector(tmp_path) as rig, rig.probe("ann") as ann, rig.probe("ben") as ben:
        await ben.welcome()  # until then nobody of this name is there
        await ann.send(Relay(peer=id_of("ben"), flow=5, opened_here=True, data=b"to ben"))
        got = await ben.next(Relay)
        assert (got.peer, got.flow, got.opened_here, got.data) == (id_of("ann"), 5, True, b"to ben")


async def test_writing_to_an_absent_member_reports_that_the_flow_has_ended(tmp_path: Path):
    async with collector(tmp_path) as rig, rig.probe("ann") as ann:
        await ann.send(Relay(peer=id_of("nobody"), flow=5, opened_here=True, data=b"?"))
        got = await ann.next(Relay)
        assert (got.peer, got.flow, got.opened_here, got.end) == (id_of("nobody"), 5, False, True)
