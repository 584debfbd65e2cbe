"""The collector client joins, reconnects, and sends the spool in order, whatever the collector does."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import msgspec
from client_rig import PLAN, QUICK, Rig, running
from fake_collector import NODE_ID, FakeCollector

from swarm_probe.collector_client.batch_sender import in_columns
from swarm_probe.collector_client.client import ClientState
from swarm_probe.collector_client.client_times import ClientTimes
from swarm_protocol.messages.column_batch import ColumnBatch
from swarm_protocol.messages.probe_messages import (
    Ack,
    Batch,
    Heartbeat,
    Hello,
    Leaving,
    Refused,
    SlowDown,
    UplinkLease,
)
from swarm_protocol.messages.samples import EventSample, LinkSample
from swarm_protocol.trust.signing import Handshake


async def test_it_joins_and_hands_over_what_was_spooled_before_and_after(
    collector: FakeCollector, tmp_path: Path
) -> None:
    rig = Rig(collector.url, tmp_path)
    rig.measure(1)
    async with running(rig):
        joined = await rig.until("joined")
        assert joined.text == f"joined 127.0.0.1:{collector.port} as kiln-07 (node {NODE_ID})"
        rig.measure(2)
        got = await collector.hears(Batch, 2)
        assert [batch.seq for batch in got] == [1, 2]
        assert collector.of(Hello)[0].token == "secret-token"
    assert rig.spool.waiting == 0
    assert collector.of(Leaving)


async def test_a_connection_that_was_lost_while_the_hello_is_signed_has_no_round_trip(
    collector: FakeCollector, tmp_path: Path
) -> None:
    """Each reading of the machine asks for it, and would end by an error; on a busy machine signing takes seconds."""

    class Signing(Rig):
        seen: int | None = -1

        async def hello(self, handshake: Handshake) -> Hello:
            connection = self.link._ws
            assert connection is not None
            connection.transport.abort()
            await asyncio.shield(connection.connection_lost_waiter)
            self.seen = self.link.rtt_ns
            return await super().hello(handshake)

    rig = Signing(collector.url, tmp_path)
    async with running(rig):
        await rig.until("away")
    assert rig.seen is None


async def test_plan_and_lease_reach_the_daemon(collector: FakeCollector, tmp_path: Path) -> None:
    rig = Rig(collector.url, tmp_path)
    lease = UplinkLease(lease_id=3, peer=NODE_ID, max_bytes=1000, expires_ms=1000)
    async with running(rig):
        await rig.until("joined")
        await collector.send(PLAN)
        await collector.send(lease)
        async with asyncio.timeout(10):
            while not rig.leases:
                rig.news.clear()
                await rig.news.wait()
    assert rig.plans == [PLAN]
    assert rig.leases == [lease]


async def test_batches_without_acknowledgement_are_sent_again_after_a_reconnect(
    collector: FakeCollector, tmp_path: Path
) -> None:
    collector.acknowledge = False
    rig = Rig(collector.url, tmp_path)
    for n in range(6):
        rig.measure(n)
    async with running(rig):
        await collector.hears(Batch, 4)
        await collector.send(Ack(epoch=rig.spool.epoch, seq=1))
        await collector.hears(Batch, 5)
        collector.committed[rig.spool.epoch] = 2  # one more was committed, its acknowledgement never arrived
        collector.acknowledge = True
        collector.heard.clear()
        await collector.drop()
        await collector.until(lambda: {b.seq for b in collector.of(Batch)} >= {6})
    assert [batch.seq for batch in collector.of(Batch)] == [3, 4, 5, 6]
    assert rig.spool.waiting == 0


async def test_at_most_a_few_batches_are_in_flight(collector: FakeCollector, tmp_path: Path) -> None:
    collector.acknowledge = False
    rig = Rig(collector.url, tmp_path)
    for n in range(20):
        rig.measure(n)
    async with running(rig):
        await collector.hears(Batch, 4)
        collector.heartbeat_ms = 1.0
        await collector.drop()  # by the time of the second connection's first batches, the first sent all it would
        await collector.hears(Batch, 8)
        assert [batch.seq for batch in collector.of(Batch)] == [1, 2, 3, 4] * 2
        collector.acknowledge = True
        await collector.send(Ack(epoch=rig.spool.epoch, seq=4))
        await collector.until(lambda: any(b.seq == 20 for b in collector.of(Batch)))


async def test_the_collectors_credit_says_how_many_batches_may_be_on_their_way(
    collector: FakeCollector, tmp_path: Path
) -> None:
    collector.acknowledge = False
    rig = Rig(collector.url, tmp_path)
    for n in range(20):
        rig.measure(n)
    async with running(rig):
        await collector.hears(Batch, 4)
        for acked, credit, sent in ((4, 1, 5), (5, 8, 13)):
            await collector.send(Ack(epoch=rig.spool.epoch, seq=acked, credit=credit))
            await collector.hears(Batch, sent)
            assert collector.of(Batch)[-1].seq == sent


async def test_slow_down_sends_the_same_batches_later(collector: FakeCollector, tmp_path: Path) -> None:
    collector.acknowledge = False
    rig = Rig(collector.url, tmp_path)
    rig.measure(1)
    async with running(rig):
        await collector.hears(Batch)
        collector.acknowledge = True
        await collector.send(SlowDown(reason="the store is full", retry_ms=1))
        again = await collector.hears(Batch, 2)
        assert [batch.seq for batch in again] == [1, 1]


async def test_a_final_refusal_ends_it_with_the_reason_made_safe(collector: FakeCollector, tmp_path: Path) -> None:
    collector.refuse = Refused(reason="wrong token\x1b[31m", final=True)
    rig = Rig(collector.url, tmp_path)
    async with running(rig) as task:
        reason = await task
    assert reason == f"127.0.0.1:{collector.port} refused this probe: wrong token?[31m"
    assert rig.states == [ClientState("refused", reason)]


async def test_a_passing_refusal_is_tried_again(collector: FakeCollector, tmp_path: Path) -> None:
    collector.refuse = Refused(reason="full", final=False, retry_ms=1)
    rig = Rig(collector.url, tmp_path)
    async with running(rig):
        away = await rig.until("away")
        assert away.text.endswith("refused this probe: full")
        collector.refuse = None
        await rig.until("joined")


async def test_a_collector_that_is_not_there_is_one_clear_state_and_is_found_once_it_is(
    collector: FakeCollector, tmp_path: Path
) -> None:
    await collector.stop()
    rig = Rig(collector.url, tmp_path)
    async with running(rig):
        away = await rig.until("away", 3)
        assert away.text == f"cannot reach 127.0.0.1:{collector.port} (Connection refused)"
        await collector.start()
        await rig.until("joined")


async def test_a_line_that_died_without_a_word_is_noticed(tmp_path: Path) -> None:
    """A half-open connection: bytes are taken and never answered."""
    fake = await FakeCollector().start()
    quiet = asyncio.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            if not quiet.is_set():
                writer.write(data)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", fake.port)
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer), return_exceptions=True)
        for each in (writer, up_writer):
            each.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rig = Rig(f"ws://127.0.0.1:{port}/probe", tmp_path, ClientTimes(**{**_fields(QUICK), "open_s": 0.5}))
    async with running(rig):
        await rig.until("joined")
        quiet.set()
        away = await rig.until("away")
        assert "ping" in away.text
        quiet.clear()
        await rig.until("joined", 2)
    server.close()
    await fake.stop()


def _fields(times: ClientTimes) -> dict[str, float]:
    return {name: getattr(times, name) for name in ClientTimes.__slots__}


async def test_a_collector_that_answers_pings_and_stores_nothing_is_left(
    collector: FakeCollector, tmp_path: Path
) -> None:
    collector.acknowledge = False
    rig = Rig(collector.url, tmp_path, ClientTimes(**{**_fields(QUICK), "ack_wait_s": 0.1}))
    rig.measure(1)
    async with running(rig):
        away = await rig.until("away")
        assert away.text == f"127.0.0.1:{collector.port} acknowledged nothing for 0.1 s"
        collector.acknowledge = True


async def test_something_else_on_that_port_is_named_so(tmp_path: Path) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rig = Rig(f"ws://127.0.0.1:{port}/probe", tmp_path)
    async with running(rig):
        away = await rig.until("away")
        assert away.text == f"cannot reach 127.0.0.1:{port} (HTTP 404: no collector at this address)"
    server.close()


async def test_messages_that_are_none_of_ours_are_counted_and_passed_over(
    collector: FakeCollector, tmp_path: Path
) -> None:
    rig = Rig(collector.url, tmp_path)
    async with running(rig):
        await rig.until("joined")
        await collector.send(b"\xc1 no message")
        await collector.send("text")
        rig.measure(1)
        await collector.hears(Batch)
    assert rig.link.ignored == 2


async def test_heartbeats_tell_how_much_waits(collector: FakeCollector, tmp_path: Path) -> None:
    collector.acknowledge = False
    collector.heartbeat_ms = 1.0  # bounded from below by the link
    rig = Rig(collector.url, tmp_path)
    for n in range(3):
        rig.measure(n)
    async with running(rig):
        (beat, *_) = await collector.hears(Heartbeat)
        assert beat.spooled == 3
        await collector.hears(Batch, 3)
        collector.acknowledge = True
        await collector.send(Ack(epoch=rig.spool.epoch, seq=3))


async def test_a_plan_may_change_the_interval_of_heartbeats(collector: FakeCollector, tmp_path: Path) -> None:
    collector.heartbeat_ms = 10_000.0
    lease = UplinkLease(lease_id=3, peer=NODE_ID, max_bytes=1000, expires_ms=1000)
    rig = Rig(collector.url, tmp_path)
    async with running(rig):
        await collector.hears(Heartbeat)
        for heartbeat_ms, kept_s in ((None, 10.0), (30_000.0, 30.0), (None, 30.0), (1.0, 0.5)):
            rig.leases.clear()
            await collector.send(msgspec.structs.replace(PLAN, heartbeat_ms=heartbeat_ms))
            await collector.send(lease)
            async with asyncio.timeout(10):
                while not rig.leases:
                    rig.news.clear()
                    await rig.news.wait()
            assert rig.link.heartbeat_s == kept_s


async def test_stopping_while_connecting_ends_at_once(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        rig = Rig(f"ws://127.0.0.1:{silent.getsockname()[1]}/probe", tmp_path, ClientTimes(open_s=3600))
        async with running(rig) as task:
            await asyncio.sleep(0)
            rig.link.leave()
            async with asyncio.timeout(5):
                assert await task is None


async def test_windows_go_in_columns_to_a_collector_that_takes_them_and_in_rows_to_others(
    collector: FakeCollector, tmp_path: Path
) -> None:
    """The spool keeps rows: after a reconnect it may be another collector."""
    collector.acknowledge, collector.columns = False, True
    rig = Rig(collector.url, tmp_path)
    window = LinkSample(at_ns=1, peer="b" * 16, path="direct", sent=9, lost=0, rtt_min_ms=1.5)
    note = EventSample(at_ns=2, kind="note", detail="x")
    rig.spool.append([note, window, window])
    rig.spool.append([note])
    async with running(rig):
        (rows,) = await collector.hears(Batch)
        (columns,) = await collector.hears(ColumnBatch)
        assert (columns.seq, columns.samples()) == (1, (note, window, window))
        assert (rows.seq, rows.samples) == (2, (note,))
        collector.acknowledge, collector.columns = True, False
        collector.heard.clear()
        await collector.drop()
        first, second = await collector.hears(Batch, 2)
    assert (first.seq, first.samples) == (1, (note, window, window))
    assert second == rows
    assert rig.spool.waiting == 0


def test_what_an_earlier_version_spooled_and_this_one_does_not_take_is_sent_as_it_is() -> None:
    samples = [{"type": "link", "at_ns": 1, "peer": "b" * 16, "path": "direct", "sent": -1, "lost": 0}]
    payload = msgspec.msgpack.encode({"type": "batch", "epoch": 7, "seq": 1, "samples": samples})
    assert in_columns(payload) == payload
