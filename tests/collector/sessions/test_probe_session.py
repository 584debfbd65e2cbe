"""A running collector and its probes: who is admitted, under which name, and that no session disturbs another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

import pytest
from collector_fixtures import FOCUS, LAYER, hello, id_of
from collector_rig import collector, handshake_of, link, note, stored, uplink
from msgspec.structs import replace
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from swarm_collector.scheduling.transfer_leases import DAILY_BYTES
from swarm_collector.transport.log_filter import LogFilter
from swarm_collector.transport.log_rate_limit import LogRateLimiter
from swarm_protocol.messages.codec import MAX_MESSAGE_BYTES, encode
from swarm_protocol.messages.probe_messages import (
    Ack,
    Batch,
    Heartbeat,
    Leaving,
    Plan,
    Refused,
    Welcome,
    decode_from_collector,
)
from swarm_protocol.messages.viewer_messages import Focus, Notice
from swarm_protocol.snapshot.swarm import State


async def test_a_probe_is_welcomed_planned_and_acknowledged(rig, tmp_path):
    async with rig.probe("kiln") as kiln, rig.probe("oven") as oven:
        welcome = await kiln.welcome()
        assert (welcome.name, welcome.node_id, welcome.committed_seq) == ("kiln", id_of("kiln"), 0)
        plan = await kiln.plan_with("oven")
        (peer,) = plan.peers
        (other,) = (await oven.plan_with("kiln")).peers
        assert (peer.stamp_key, peer.ssid_in, peer.ssid_out) == (other.stamp_key, other.ssid_out, other.ssid_in)
        assert peer.hosts == ("127.0.0.1",)
        await kiln.batch(1, link(time.time_ns(), id_of("oven")))
        assert await kiln.next(Ack) == Ack(epoch=7, seq=1, credit=8)
        ((node_id, sample),) = stored(tmp_path, "link")
        assert (node_id, sample.peer, sample.rtt_p50_ms) == (id_of("kiln"), id_of("oven"), 12.5)


async def test_a_plan_never_comes_before_the_welcome(rig, monkeypatch):
    """Until the welcome, a probe does not know which addresses it may send to."""
    asked, planned = asyncio.Event(), asyncio.Event()
    committed = rig.swarm_state.store_client.committed

    async def slowly(node_id, epoch):
        if node_id == id_of("oven"):
            asked.set()
            await planned.wait()
        return await committed(node_id, epoch)

    monkeypatch.setattr(rig.swarm_state.store_client, "committed", slowly)
    async with rig.probe("oven") as oven:
        await asyncio.wait_for(asked.wait(), 10)
        async with rig.probe("kiln") as kiln:
            await kiln.plan_with("oven")
            planned.set()
            first = decode_from_collector(await oven.connection.recv())
            assert isinstance(first, Welcome)
            await oven.plan_with("kiln")


async def test_a_wrong_token_is_told_so_for_good_and_the_neighbour_continues(tmp_path):
    async with collector(tmp_path, token="secret") as rig, rig.probe("good", token="secret") as good:
        await good.welcome()
        async with rig.probe("bad", token="guess") as bad:
            refused = await bad.next(Refused)
            assert refused.final
            assert "--token" in refused.reason
            await bad.closed()
        await good.batch(1, note(time.time_ns(), "still here"))
        await good.acked(1)


async def test_an_old_protocol_is_told_who_must_update(rig):
    async with rig.probe("old", protocol=99) as probe:
        refused = await probe.next(Refused)
        assert (refused.final, "update the collector" in refused.reason) == (True, True)


@pytest.mark.parametrize("name", ["[@click=app.quit]kiln[/]", "\x1b[2J\x1b]0;boo\x07", "x" * 300, "‮gnip", "=1+1"])
async def test_a_hostile_name_is_clean_in_the_welcome_the_stream_and_the_log(rig, name, caplog):
    caplog.set_level(logging.INFO)
    async with rig.probe(name) as probe, rig.viewer() as viewer:
        shown = (await probe.welcome()).name
        swarm = await viewer.until(lambda swarm: len(swarm) == 1)
        assert swarm.names == (shown,)
    assert name not in caplog.text
    assert "\x1b" not in caplog.text


async def test_two_of_one_name_are_distinguished(rig):
    async with rig.probe("kiln", seed=b"a" * 32) as a, rig.probe("kiln", seed=b"b" * 32) as b:
        assert {(await a.welcome()).name, (await b.welcome()).name} == {"kiln", "kiln-2"}


GARBAGE = [random.Random(4).randbytes(size) for size in (1, 7, 64, 4096)]


GARBAGE += ["text", encode(Batch(epoch=9, seq=1, samples=())), bytes(MAX_MESSAGE_BYTES + 1)]


@pytest.mark.parametrize("joined", [False, True])
async def test_garbage_ends_its_own_session_only(rig, joined):
    async with rig.probe("good") as good:
        await good.welcome()
        for payload in GARBAGE:
            async with connect(rig.url("/probe"), compression=None, proxy=None) as bad:
                if joined:
                    await bad.send(encode(hello("bad", handshake=handshake_of(bad))))
                with contextlib.suppress(ConnectionClosed):
                    await bad.send(payload)
                await asyncio.wait_for(bad.wait_closed(), 10)
        await good.batch(1, note(time.time_ns(), "undisturbed"))
        await good.acked(1)


async def test_a_probe_that_comes_back_is_told_what_is_committed(rig):
    async with rig.probe("kiln") as probe:
        await probe.batch(5, note(time.time_ns(), "five"))
        await probe.acked(5)
    async with rig.probe("kiln") as probe:
        assert (await probe.welcome()).committed_seq == 5


async def test_a_restarted_collector_knows_names_keys_and_figures(tmp_path):
    async with collector(tmp_path) as rig, rig.probe("kiln", seed=b"k" * 32), rig.probe("oven") as oven:
        (before,) = (await oven.plan_with("kiln")).peers
        await oven.batch(1, link(time.time_ns(), before.node_id, rtt_ms=33.0))
        await oven.acked(1)
    async with collector(tmp_path) as rig, rig.viewer() as viewer:
        swarm = await viewer.frame()
        src, dst = swarm.index("oven"), swarm.index("kiln")
        assert swarm.links["rtt_p50_ms"][src, dst] == 33.0
        async with rig.probe("oven") as oven, rig.probe("kiln", seed=b"k" * 32):
            assert (await oven.plan_with("kiln")).peers[0].stamp_key == before.stamp_key


async def test_the_second_session_of_a_node_takes_over(rig):
    async with rig.probe("kiln") as first:
        await first.welcome()
        async with rig.probe("kiln") as second:
            await second.welcome()
            refused = await first.next(Refused)
            assert (refused.final, "share one state folder" in refused.reason) == (False, True)
            await first.closed()
            await second.batch(1, note(time.time_ns(), "mine"))
            await second.acked(1)
            assert rig.health()["probes"] == 1


async def test_a_goodbye_shows_as_left_and_frees_the_others(rig):
    async with rig.probe("stays") as stays, rig.viewer() as viewer:
        async with rig.probe("goes") as goes:
            await stays.plan_with("goes")
            await goes.send(Leaving(reason="stopped by its owner"))
            await goes.closed()
        await stays.plan_with()
        swarm = await viewer.until(lambda swarm: any(event.kind == "left" for event in swarm.events))
        assert swarm.nodes["state"][swarm.index("goes")] == State.LEFT


async def test_a_heartbeat_tells_how_much_is_spooled(rig):
    async with rig.probe("kiln") as probe, rig.viewer() as viewer:
        await probe.send(Heartbeat(at_ns=time.time_ns(), spooled=17))
        await viewer.until(lambda swarm: len(swarm) == 1 and swarm.nodes["spooled"][0] == 17)


async def test_a_storm_of_wrong_tokens_makes_few_lines_and_a_count(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    limit = LogFilter(LogRateLimiter(burst=3.0))
    caplog.handler.addFilter(limit)
    async with collector(tmp_path, token="secret") as rig:
        for _ in range(10):
            async with rig.probe("bad", token="guess") as bad:
                await bad.closed()
        assert sum("wrong or missing token" in line for line in caplog.messages) == 3
        limit.close()
        assert caplog.messages[-1].startswith("… and 7 more in the last minute like: session 4 of 127.0.0.1 ends")
        assert rig.swarm_state.sessions_ended == 10
    caplog.handler.removeFilter(limit)


async def test_the_model_a_viewer_chose_is_still_measured_after_a_restart(tmp_path):
    chosen = Focus(model="tiny", layer=replace(LAYER, hidden=512), dtype="int8", hop_bytes=1024)
    async with (
        collector(tmp_path) as rig,
        rig.viewer(operator=rig.server.operator_requests.secret) as viewer,
        rig.probe("kiln") as probe,
    ):
        await viewer.frame()
        await viewer.connection.send(encode(chosen))
        while (await probe.next(Plan)).compute.model != "tiny":
            pass
    async with collector(tmp_path) as rig:
        assert rig.swarm_state.dispatcher.scheduler.focus == replace(chosen, chosen=True)
    async with collector(tmp_path, focus_is_named=True) as rig:
        assert rig.swarm_state.dispatcher.scheduler.focus == replace(FOCUS, chosen=True)


async def test_a_viewers_default_does_not_replace_the_model_that_the_operator_chose(tmp_path):
    """Each `swarmtop --connect` without --model did, and every machine measured the default from then on."""
    default = Focus(model="tiny", layer=replace(LAYER, hidden=512), dtype="int8", hop_bytes=1024, chosen=False)
    async with collector(tmp_path, focus_is_named=True) as rig:
        operator = rig.server.operator_requests.secret
        async with rig.viewer(operator=operator) as viewer:
            await viewer.frame()
            await viewer.connection.send(encode(default))
            notice = await viewer.next(Notice)
            assert notice.text == (
                "this swarm goes on measuring for llama-2-70b in fp16, which somebody chose, and not for tiny, "
                "a default; choose with --model"
            )
            assert rig.swarm_state.dispatcher.scheduler.focus.model == "llama-2-70b"
            await viewer.connection.send(encode(replace(default, chosen=True)))
            while rig.swarm_state.dispatcher.scheduler.focus.model != "tiny":
                await viewer.frame()


async def test_a_default_replaces_a_default_and_one_that_is_then_chosen_stays(tmp_path):
    default = Focus(model="tiny", layer=replace(LAYER, hidden=512), dtype="int8", hop_bytes=1024, chosen=False)
    async with collector(tmp_path) as rig, rig.viewer(operator=rig.server.operator_requests.secret) as viewer:
        await viewer.frame()
        await viewer.connection.send(encode(default))
        while rig.swarm_state.dispatcher.scheduler.focus != default:
            await viewer.frame()
        await viewer.connection.send(encode(replace(default, chosen=True)))
        await viewer.connection.send(encode(replace(FOCUS, chosen=False)))
        assert "which somebody chose" in (await viewer.next(Notice)).text
        assert rig.swarm_state.dispatcher.scheduler.focus.model == "tiny"
    async with collector(tmp_path) as rig:
        assert rig.swarm_state.dispatcher.scheduler.focus.chosen


async def test_bytes_spent_on_transfers_are_counted_over_a_restart(tmp_path):
    """Else a collector that is restarted often would spend a volunteer's day many times over."""
    async with collector(tmp_path) as rig, rig.probe("kiln") as kiln, rig.probe("oven") as oven:
        await kiln.welcome()
        await oven.welcome()
        await kiln.batch(1, uplink(time.time_ns(), id_of("oven"), sent_bytes=DAILY_BYTES))
        await kiln.acked(1)
    async with collector(tmp_path) as rig:
        leases, now_ns = rig.swarm_state.dispatcher.leases, rig.swarm_state.clock.steady_ns()
        assert leases._left_bytes(id_of("kiln"), now_ns) < DAILY_BYTES / 50
        assert leases._left_bytes(id_of("oven"), now_ns) < DAILY_BYTES / 50
        assert leases._left_bytes(id_of("third"), now_ns) == DAILY_BYTES
