"""The collector client joins, reconnects, and sends the spool in order, whatever the collector does."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_collector import NODE_ID, FakeCollector
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.collector_client.certificate_pinning import Certificates
from swarm_probe.collector_client.client import ClientState, CollectorClient
from swarm_probe.collector_client.client_times import Backoff, ClientTimes
from swarm_probe.collector_client.data_requests import AboutError, ask
from swarm_probe.collector_client.join_url import JoinError, parse_join
from swarm_probe.spool import Spool
from swarm_protocol.messages.probe_messages import (
    COLLECTOR_HEADER,
    NONCE_HEADER,
    Ack,
    Batch,
    Heartbeat,
    Hello,
    HostFacts,
    Leaving,
    Plan,
    Refused,
    SlowDown,
    UplinkLease,
)
from swarm_protocol.messages.samples import EventSample
from swarm_protocol.text import safe
from swarm_protocol.trust.signing import Handshake

QUICK = ClientTimes(
    open_s=2.0, ping_s=0.1, ping_wait_s=0.1, ack_wait_s=5.0, retry_base_s=0.01, retry_cap_s=0.02, leave_s=1.0
)
PLAN = Plan(
    revision=7,
    peers=(),
    stamp_interval_ms=1000,
    window_ms=1000,
    hop_bytes=1,
    hop_cadence_ms=1,
    hop_every_ms=1,
    host_every_ms=1,
)


class Rig:
    """A link on a real spool, and what it said."""

    def __init__(self, url: str, folder: Path, times: ClientTimes = QUICK) -> None:
        self.spool = Spool(folder, now_ns=lambda: 1_700_000_000_000_000_000, say=print)
        self.states: list[ClientState] = []
        self.plans: list[Plan] = []
        self.leases: list[UplinkLease] = []
        self.news = asyncio.Event()
        self.link = CollectorClient(
            url,
            hello=self.hello,
            certificates=Certificates("127.0.0.1", folder, print, tls=False),
            spool=self.spool,
            on_plan=lambda plan: (self.plans.append(plan), self.news.set()),  # type: ignore[func-returns-value]
            on_lease=lambda lease: (self.leases.append(lease), self.news.set()),  # type: ignore[func-returns-value]
            on_state=lambda state: (self.states.append(state), self.news.set()),  # type: ignore[func-returns-value]
            rng=random.Random(1),
            times=times,
        )

    async def hello(self, handshake: Handshake) -> Hello:
        return Hello(
            protocol=1,
            name="kiln-07",
            token="secret-token",
            epoch=self.spool.epoch,
            udp_port=0,
            tcp_port=0,
            software="test",
            facts=HostFacts(system="Linux", cpu="cpu", cores=1, ram_bytes=1),
        )

    def measure(self, n: int) -> None:
        self.spool.append([EventSample(at_ns=n, kind="note", detail=str(n))])
        self.link.more()

    async def until(self, kind: str, count: int = 1) -> ClientState:
        async with asyncio.timeout(10):
            while len(found := [s for s in self.states if s.kind == kind]) < count:
                self.news.clear()
                await self.news.wait()
        return found[count - 1]


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[asyncio.Task[str | None]]:
    task = asyncio.create_task(rig.link.run())
    try:
        yield task
    finally:
        rig.link.leave()
        async with asyncio.timeout(10):
            await task


@pytest.fixture
async def collector() -> AsyncIterator[FakeCollector]:
    fake = await FakeCollector().start()
    yield fake
    await fake.stop()


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


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(JoinError, match=r"^--join takes no user or password; a token goes into --token") as caught:
        parse_join("ws://user:secret@host:1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("203.0.113.7:9470", "wss://203.0.113.7:9470/probe"),
        ("swarm.example", "wss://swarm.example:9470/probe"),
        ("[2001:db8::7]:99", "wss://[2001:db8::7]:99/probe"),
        ("127.0.0.1:9470", "ws://127.0.0.1:9470/probe"),
        ("ws://[::1]:9470", "ws://[::1]:9470/probe"),
        ("localhost", "ws://localhost:9470/probe"),
        ("wss://swarm.example", "wss://swarm.example:443/probe"),
        ("https://swarm.example/pool/", "wss://swarm.example:443/pool/probe"),
    ],
)
def test_join_takes_what_people_paste(text: str, url: str) -> None:
    assert parse_join(text) == url


@pytest.mark.parametrize("text", ["swarm.example:1", "ws://swarm.example:1/probe", "http://swarm.example:1"])
def test_plain_text_to_another_machine_must_be_asked_for(text: str) -> None:
    assert parse_join(text, insecure=True) == "ws://swarm.example:1/probe"
    if "://" in text:
        with pytest.raises(JoinError) as caught:
            parse_join(text)
        assert str(caught.value) == (
            f"--join '{text}' is plain text, which anyone on the path can read and change; "
            "leave out the scheme for TLS, or add --insecure"
        )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "--join '' names no host; give HOST:PORT, e.g. --join 203.0.113.7:9470"),
        (
            "host:99999",
            "--join 'host:99999': Port out of range 0-65535; give HOST:PORT, e.g. --join 203.0.113.7:9470",
        ),
        (":9470", "--join ':9470' names no host; give HOST:PORT, e.g. --join 203.0.113.7:9470"),
        ("host:0", "--join 'host:0': nothing listens on port 0; give HOST:PORT, e.g. --join 203.0.113.7:9470"),
        (
            "ftp://host",
            "--join 'ftp://host' is neither HOST:PORT nor a ws:// or wss:// URL; give HOST:PORT, "
            "e.g. --join 203.0.113.7:9470",
        ),
        (
            "2001:db8::7",
            "--join '2001:db8::7': write an IPv6 address in brackets, e.g. --join '[2001:db8::7]:9470'",
        ),
    ],
)
def test_join_refuses_an_invalid_address_in_one_line(text: str, line: str) -> None:
    with pytest.raises(JoinError) as caught:
        parse_join(text)
    assert str(caught.value) == line


@given(st.text(max_size=40))
def test_any_join_text_gives_a_url_or_one_clear_line(text: str) -> None:
    try:
        url = parse_join(text)
    except JoinError as error:
        url = f"{error}/probe"
    assert safe(url, 1000) == url
    assert url.endswith("/probe")


@given(st.integers(min_value=0, max_value=2**32))
def test_backoff_is_spread_over_the_whole_span_and_never_above_the_cap(seed: int) -> None:
    backoff = Backoff(1.0, 60.0, random.Random(seed))
    waits = [backoff.next_s() for _ in range(40)]
    assert all(0 <= wait <= min(60.0, 2.0**n) for n, wait in enumerate(waits))
    backoff.reset()
    assert backoff.next_s(at_least_s=5.0) <= 6.0


# ---------------------------------------------------------------- which collector this is


async def test_an_older_collector_is_reported_in_one_line_and_shown_nothing(collector, tmp_path):
    """What is signed for it would be of use elsewhere."""
    collector.headers = {NONCE_HEADER: bytes(32).hex()}
    rig = Rig(collector.url, tmp_path)
    async with asyncio.timeout(10):
        said = await rig.link.run()
    assert said == (
        "127.0.0.1 is of an older swarmtop, or not a collector: this machine cannot authenticate to it; ask its "
        "operator to update it"
    )
    assert collector.heard == []


async def test_another_collector_at_the_same_address_is_refused_in_one_line(collector, tmp_path):
    rig = Rig(collector.url, tmp_path)
    running = asyncio.create_task(rig.link.run())
    await rig.until("joined")
    rig.link.leave()
    await running
    rig.spool.close()
    collector.headers = collector.headers | {COLLECTOR_HEADER: (b"\x01" * 16).hex()}
    again = Rig(collector.url, tmp_path)
    async with asyncio.timeout(10):
        said = await again.link.run()
    assert said == (
        f"at 127.0.0.1 is another collector than the one known (id {'01' * 16}, not {'00' * 16}); if its operator says "
        f"that it was set up again, remove the line 127.0.0.1/id from {tmp_path / 'known_collectors'}"
    )
    assert len(collector.of(Hello)) == 1


@contextlib.asynccontextmanager
async def redirecting(status: int) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that sends everybody to another one, and who came there."""
    came: list[str] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append((await reader.readline()).decode())
        writer.close()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        where = f"ws://127.0.0.1:{victim.sockets[0].getsockname()[1]}/probe"
        writer.write(f"HTTP/1.1 {status} Go\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(elsewhere, "127.0.0.1", 0) as victim,
        await asyncio.start_server(speak, "127.0.0.1", 0) as server,
    ):
        yield server.sockets[0].getsockname()[1], came


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int, tmp_path: Path) -> None:
    """Whoever answers at the collector's address must not send a probe, with its invite, to a third machine."""
    async with redirecting(status) as (port, came):
        rig = Rig(f"ws://127.0.0.1:{port}/probe", tmp_path)
        async with running(rig):
            away = await rig.until("away", 2)
        assert away.text == f"cannot reach 127.0.0.1:{port} (HTTP {status}: no collector at this address)"
        assert came == []


async def test_questions_about_oneself_follow_no_redirect_either(tmp_path: Path) -> None:
    """`status --data` and `forget` bring a proof of the node's key."""
    async with redirecting(302) as (port, came):
        with pytest.raises(AboutError, match=r"^cannot ask 127\.0\.0\.1:"):
            await asyncio.to_thread(ask, f"ws://127.0.0.1:{port}/probe", tmp_path, tmp_path / "key", forget=False)
        assert came == []
