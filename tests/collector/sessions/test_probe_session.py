"""A running collector and its probes: who is admitted, what is acknowledged, and that no session disturbs another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

import aiohttp
import msgspec
import pytest
from collector_fixtures import FOCUS, LAYER, hello, id_of
from collector_rig import Probe, collector, handshake_of, link, note, probe_at, uplink
from msgspec.structs import replace
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from swarm_collector.scheduling.transfer_leases import DAILY_BYTES
from swarm_collector.transport.connection_limits import Limits
from swarm_collector.transport.keepalive import KeepaliveTimes
from swarm_collector.transport.log_filter import LogFilter
from swarm_collector.transport.log_rate_limit import LogRateLimiter
from swarm_protocol.messages.codec import MAX_MESSAGE_BYTES, encode
from swarm_protocol.messages.probe_messages import (
    COLLECTOR_HEADER,
    NONCE_HEADER,
    Ack,
    Batch,
    Heartbeat,
    Leaving,
    Plan,
    Refused,
    SlowDown,
    Welcome,
    decode_from_collector,
)
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.snapshot.swarm import State
from swarm_protocol.trust.signing import Handshake, plain_text_binding
from swarm_storage.errors import Full
from swarm_storage.store import open_store

YEAR_NS = 365 * 86_400 * 10**9


@pytest.fixture
async def rig(tmp_path):
    async with collector(tmp_path) as rig:
        yield rig


def stored(folder, kind="event"):
    store = open_store(f"sqlite:///{folder / 'swarm.db'}", read_only=True)
    with contextlib.closing(store):
        return [(node_id, sample) for node_id, sample in store.reader.samples(kinds=(kind,))]


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


async def test_a_repeated_batch_is_acknowledged_and_stored_once(rig, tmp_path):
    at_ns = time.time_ns()
    async with rig.probe("kiln") as probe:
        for _ in range(3):
            await probe.batch(1, note(at_ns, "once"))
            await probe.acked(1)
    assert [sample.detail for _, sample in stored(tmp_path)].count("once") == 1


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


@pytest.mark.parametrize(("off_ns", "said"), [(YEAR_NS, "365.0 days ahead"), (-YEAR_NS, "365.0 days behind")])
async def test_a_clock_a_year_off_is_reported_once_and_its_times_are_moved(rig, tmp_path, off_ns, said):
    """Rows of a year ago would be pruned at once, rows of next year would stretch the recording."""
    began_ns = time.time_ns()
    async with rig.probe("kiln", at_ns=began_ns + off_ns) as probe:
        await probe.send(Heartbeat(at_ns=time.time_ns() + off_ns, spooled=0))
        for seq in (1, 2):
            await probe.batch(seq, note(began_ns + off_ns - seq * 10**9, f"a second apart {seq}"))
            await probe.acked(seq)
    events = [sample for _, sample in stored(tmp_path)]
    first, second = (e.at_ns for e in sorted(events, key=lambda e: e.detail) if e.detail.startswith("a second apart"))
    assert first - second == 10**9
    assert abs(first - began_ns) < 10 * 10**9
    assert [sample.detail for sample in events if sample.kind == "clock"] == [
        f"this node's clock is {said}; its times are corrected by that much"
    ]


async def test_the_clock_of_an_older_probe_is_checked_too(rig, tmp_path):
    now_ns = time.time_ns()
    async with rig.probe("kiln") as probe:
        for seq in (1, 2):
            await probe.batch(seq, note(now_ns + YEAR_NS, f"from the future {seq}"))
            await probe.acked(seq)
    events = [sample for _, sample in stored(tmp_path)]
    assert all(abs(sample.at_ns - now_ns) < 60 * 10**9 for sample in events)
    assert [sample.detail for sample in events if sample.kind == "clock"] == [
        "samples of this node are dated 365.0 days ahead; they get the time of their arrival"
    ]


async def test_the_collectors_own_clock_set_by_a_year_is_reported_once_and_no_probe_is_blamed(tmp_path, monkeypatch):
    async with collector(tmp_path) as rig, rig.probe("kiln", at_ns=time.time_ns()) as probe:
        await probe.welcome()
        real = rig.swarm_state.clock.wall_ns
        monkeypatch.setattr(rig.swarm_state.clock, "wall_ns", lambda: real() + YEAR_NS)
        await probe.send(Heartbeat(at_ns=time.time_ns(), spooled=0))
        await probe.batch(1, note(time.time_ns(), "just now"))
        await probe.acked(1)
    events = [sample for _, sample in stored(tmp_path)]
    assert [sample.detail for sample in events if sample.kind == "clock"] == [
        "the collector's own clock was set: it is 365.0 days ahead of what it was"
    ]
    (kept,) = (sample for sample in events if sample.kind == "note")
    assert abs(kept.at_ns - time.time_ns() - YEAR_NS) < 60 * 10**9


async def test_a_spool_that_dropped_the_refused_batch_continues_in_a_new_session(rig, monkeypatch, tmp_path):
    """The store waits for the refused one; a hello says that nothing before what comes now is left."""
    real, failures = rig.swarm_state.store_client._writer.offer, iter([True])

    def once(batch, answer):
        if next(failures, False):
            rig.swarm_state.store_client._writer._batch_order._owed[batch.node_id, batch.epoch] = (
                batch.seq,
                float("inf"),
            )
            raise Full("no space left")
        return real(batch, answer)

    monkeypatch.setattr(rig.swarm_state.store_client._writer, "offer", once)
    async with rig.probe("kiln") as probe:
        await probe.batch(1, note(time.time_ns(), "one"))
        await probe.next(SlowDown)
    async with rig.probe("kiln") as probe:
        await probe.batch(3, note(time.time_ns(), "three"))
        await probe.acked(3)


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
        assert rig.swarm_state.dispatcher.scheduler.focus == chosen
    async with collector(tmp_path, focus_is_named=True) as rig:
        assert rig.swarm_state.dispatcher.scheduler.focus == FOCUS


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


async def test_a_full_disk_is_told_to_probes_viewers_and_log_and_ends(rig, monkeypatch, caplog):
    def full(batch, answer):
        raise Full("no space left for swarm.db; free some, nothing that was acknowledged is lost")

    async with rig.probe("kiln") as probe, rig.viewer() as viewer:
        await viewer.until(lambda swarm: len(swarm) == 1)
        with monkeypatch.context() as broken:
            broken.setattr(rig.swarm_state.intake, "submit", full)
            for _ in range(2):
                await probe.batch(1, note(time.time_ns(), "kept"))
                slow = await probe.next(SlowDown)
                assert slow.retry_ms > 1000
            await viewer.until(lambda swarm: any("no space left" in event.detail for event in swarm.events))
            assert rig.health()["status"] == "store"
        await probe.batch(1, note(time.time_ns(), "kept"))
        await probe.acked(1)
        await viewer.until(lambda swarm: any("storing again" in event.detail for event in swarm.events))
    assert caplog.text.count("nothing is stored now") == 1


async def test_a_batch_behind_a_refused_one_is_not_taken(rig, monkeypatch, tmp_path):
    """Its acknowledgement would cover the refused one, and the probe would drop it."""
    real, failures = rig.swarm_state.intake.submit, iter([True])

    def once(batch, answer):
        if next(failures, False):
            raise Full("no space left")
        return real(batch, answer)

    monkeypatch.setattr(rig.swarm_state.intake, "submit", once)
    at_ns = time.time_ns()
    async with rig.probe("kiln") as probe:
        await probe.welcome()
        for seq in (1, 2, 3):
            await probe.batch(seq, note(at_ns, f"batch {seq}"))
        await probe.next(SlowDown)
        for seq in (1, 2, 3):
            await probe.batch(seq, note(at_ns, f"batch {seq}"))
        await probe.acked(3)
    details = [sample.detail for _, sample in stored(tmp_path) if sample.kind == "note"]
    assert sorted(details) == ["batch 1", "batch 2", "batch 3"]


@pytest.mark.parametrize(("fullness", "credit"), [(0.0, 8), (0.2, 4), (0.4, 2), (0.9, 1)])
async def test_credit_shrinks_as_the_writers_queue_fills(rig, fullness, credit):
    rig.swarm_state.intake.fullness = lambda: fullness
    async with rig.probe("kiln") as kiln:
        await kiln.batch(1, note(time.time_ns(), "x"))
        assert (await kiln.next(Ack)).credit == credit


async def test_the_collectors_end_is_reported_and_what_was_taken_is_kept(tmp_path):
    async with collector(tmp_path) as rig, probe_at(rig.port, "kiln") as probe:
        await probe.batch(1, note(time.time_ns(), "last words"))
        await probe.acked(1)
        await rig.server.stop()
        assert await probe.closed() == (1001, "the collector is stopping; come back in a moment")
    assert "last words" in [sample.detail for _, sample in stored(tmp_path)]


# ---------------------------------------------------------------- connections that are none


QUICK = Limits(http_s=0.3, hello_s=0.3, per_address=8)


async def drip(port: int, address: str) -> float:
    """Sends a request header one byte at a time for ever; the seconds until the collector cuts it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    began = asyncio.get_running_loop().time()

    async def send() -> None:
        for byte in b"GET /probe HTTP/1.1\r\nHost: x\r\n" + b"X-Slow: 1\r\n" * 10_000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.1)

    sending = asyncio.ensure_future(send())
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 20)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    writer.close()
    return asyncio.get_running_loop().time() - began


async def test_five_hundred_slow_clients_are_cut_in_time_and_a_probe_joins_meanwhile(tmp_path):
    """aiohttp alone lets each of them hold its connection for hours."""
    async with collector(tmp_path, limits=Limits(http_s=1.0, per_address=256)) as rig:
        dripping = [asyncio.ensure_future(drip(rig.port, f"127.0.0.{2 + i // 200}")) for i in range(500)]
        async with rig.probe("kiln") as probe:
            await probe.welcome()
            await probe.batch(1, note(time.time_ns(), "undisturbed"))
            await probe.acked(1)
            assert max(await asyncio.gather(*dripping)) < 15
            await probe.batch(2, note(time.time_ns(), "still there"))
            await probe.acked(2)
        assert rig.server.connection_limiter.refused["not a session in time"] == 500


FIRST_RELEASE = {
    "hello": {
        "type": "hello", "protocol": 1, "node_key": bytes(range(32)), "name": "elder", "epoch": 7, "udp_port": 4000,
        "tcp_port": 4001, "software": "swarm-probe 0.1.0",
        "facts": {"system": "Linux", "cpu": "EPYC", "cores": 8, "ram_bytes": 1 << 34},
    },
    "link": {
        "type": "link", "path": "direct", "sent": 20, "lost": 1, "rtt_min_ms": 9.5, "rtt_p50_ms": 10.5,
        "rtt_p95_ms": 12.0, "rtt_p99_ms": 12.5, "pdv_ms": 2.5, "jitter_rfc3550_ms": 0.5, "timestamps": "kernel",
    },
    "hop": {
        "type": "hop", "size_bytes": 16384, "cadence_ms": 150.0, "n": 20, "min_ms": 20.0, "p50_ms": 21.0,
        "p95_ms": 22.0, "p99_ms": 23.0,
    },
}  # fmt: skip


async def test_samples_of_the_first_release_are_understood(rig, tmp_path):
    """A spool may hold them. They know none of the fields that came since: each needs a default."""
    at_ns = time.time_ns()
    async with rig.probe("kiln") as kiln, rig.probe("oven") as oven:
        await kiln.welcome()
        await oven.welcome()
        samples = [dict(FIRST_RELEASE[kind], at_ns=at_ns, peer=oven.node_id) for kind in ("link", "hop")]
        await kiln.connection.send(msgspec.msgpack.encode({"type": "batch", "epoch": 7, "seq": 1, "samples": samples}))
        await kiln.acked(1)
    ((_, link),), ((_, hop),) = stored(tmp_path, "link"), stored(tmp_path, "hop")
    assert (link.rtt_p50_ms, hop.p50_ms) == (10.5, 21.0)


async def test_a_probe_of_an_earlier_protocol_is_told_so_in_one_line(rig):
    """It shows a secret, or signs what is of use at any collector, and it cannot read ids of 128 bits."""
    async with connect(rig.url("/probe"), compression=None, proxy=None) as connection:
        await connection.send(msgspec.msgpack.encode(FIRST_RELEASE["hello"]))
        refused = await Probe(connection, "elder").next(Refused)
    assert (refused.reason, refused.final) == ("the probe speaks protocol 1, the collector 2; update the probe", True)


async def test_a_socket_that_says_no_hello_is_closed(tmp_path):
    async with (
        collector(tmp_path, limits=QUICK) as rig,
        connect(rig.url("/probe"), compression=None, proxy=None) as silent,
    ):
        await asyncio.wait_for(silent.wait_closed(), 10)
        assert silent.close_reason == "nothing received for 0.3 s"


async def test_one_address_cannot_hold_more_than_its_share(tmp_path):
    async with collector(tmp_path, limits=Limits(per_address=2)) as rig:
        async with rig.probe("a") as a, rig.probe("b") as b:
            await a.welcome()
            await b.welcome()
            with pytest.raises((OSError, InvalidMessage)):
                await connect(rig.url("/probe"), proxy=None)
            assert rig.server.connection_limiter.refused["too many connections of one address"] == 1
        async with rig.probe("c") as c:
            await c.welcome()


async def upgraded(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket that answers no ping: what a machine that lost its power leaves behind."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /probe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    nonce, own = (
        bytes.fromhex(line.split(": ")[1])
        for name in (NONCE_HEADER, COLLECTOR_HEADER)
        for line in head.splitlines()
        if line.startswith(name)
    )
    body = encode(hello("ghost", handshake=Handshake(nonce, own, plain_text_binding("127.0.0.1", port))))
    writer.write(bytes([0x82, 0x80 | 126]) + len(body).to_bytes(2, "big") + bytes(4) + body)
    return reader, writer


async def test_a_half_open_connection_is_noticed(tmp_path):
    async with collector(tmp_path, pulse=KeepaliveTimes(ping_s=0.2, silence_s=60)) as rig:
        reader, writer = await upgraded(rig.port)
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
        async with rig.viewer() as viewer:
            await viewer.until(lambda swarm: len(swarm) == 1)
        assert rig.health()["probes"] == 0


async def test_a_probe_that_only_answers_pings_is_let_go(tmp_path):
    async with collector(tmp_path, pulse=KeepaliveTimes(ping_s=0.1, silence_s=0.4)) as rig, rig.probe("stuck") as probe:
        await probe.welcome()
        assert await probe.closed() == (1008, "nothing received for 0.4 s")


async def test_a_web_page_is_kept_out(rig):
    with pytest.raises(InvalidStatus) as refused:
        async with connect(rig.url("/view"), origin="http://evil.example", proxy=None):
            pass
    assert refused.value.response.status_code == 403


async def test_health_says_how_it_is(rig):
    async with rig.probe("kiln") as probe, aiohttp.ClientSession() as session:
        await probe.batch(1, note(time.time_ns(), "x"))
        await probe.acked(1)
        async with session.get(f"http://127.0.0.1:{rig.port}/health") as response:
            assert response.status == 200
            health = await response.json()
    assert (health["status"], health["members"], health["probes"], health["batches"]) == ("ok", 1, 1, 1)


async def test_a_browser_at_the_collectors_port_gets_an_explanation(rig):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{rig.port}/probe") as response:
        assert (response.status, "swarm-probe --join" in await response.text()) == (426, True)
