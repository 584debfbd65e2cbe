"""What a collector may cost its volunteers in bytes and frames, and how long they stay away from it then."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from fake_collector import NODE_ID
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from swarm_probe.collector_client import hangups, traffic_meter
from swarm_probe.collector_client.certificate_pinning import Certificates
from swarm_probe.collector_client.client import ClientState, CollectorClient
from swarm_probe.collector_client.client_times import ClientTimes
from swarm_probe.collector_client.hangups import FIRST_S, FORGIVEN_S, MAX_S, Strikes
from swarm_probe.owner_limits.traffic_budget import HOUR_NS, HOURS, TrafficBudget
from swarm_probe.spool import Spool
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import (
    COLLECTOR_HEADER,
    NONCE_HEADER,
    PROTOCOL_VERSION,
    Hello,
    HostFacts,
    Peer,
    Plan,
    Welcome,
)
from swarm_protocol.trust.signing import Handshake
from swarm_protocol.units import NS_PER_S

T0 = 1_700_000_000_000_000_000
QUICK = ClientTimes(open_s=3.0, retry_base_s=0.01, retry_cap_s=0.02, leave_s=0.2)
WELCOME = Welcome(node_id=NODE_ID, name="n", committed_seq=0, heartbeat_ms=60_000.0, observed_host="127.0.0.1")
HEADERS = {NONCE_HEADER: bytes(32).hex(), COLLECTOR_HEADER: bytes(16).hex()}
Attack = Callable[[ServerConnection], Awaitable[None]]


class Hostile:
    """Welcomes whoever comes, then attacks; counts its connections and what it could push out."""

    def __init__(self, attack: Attack, *, welcome: bool = True) -> None:
        self.connections = 0
        self._attack = attack
        self._welcome = welcome
        self._server: Server | None = None
        self.port = 0

    async def start(self) -> Hostile:
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            0,
            compression=None,
            ping_interval=None,
            close_timeout=0.1,
            max_queue=None,
            process_response=lambda ws, request, response: response.headers.update(HEADERS),
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close(close_connections=True)
        await self._server.wait_closed()

    async def _handle(self, ws: ServerConnection) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionClosed):
            await ws.recv()
            if self._welcome:
                await ws.send(encode(WELCOME))
            await self._attack(ws)


class Rig:
    def __init__(self, port: int, folder: Path, daily_bytes: int | None = None) -> None:
        self.states: list[ClientState] = []
        self.news = asyncio.Event()
        self.traffic_budget = TrafficBudget(daily_bytes)
        self.strikes = Strikes.open("here", folder)
        self.link = CollectorClient(
            f"ws://127.0.0.1:{port}/probe",
            hello=self._hello,
            certificates=Certificates("127.0.0.1", folder, print, tls=False),
            spool=Spool(folder / "spool", now_ns=lambda: T0, say=print),
            on_plan=lambda _: None,
            on_lease=lambda _: None,
            on_state=self._on_state,
            rng=random.Random(1),
            times=QUICK,
            traffic_budget=self.traffic_budget,
            strikes=self.strikes,
        )

    async def _hello(self, handshake: Handshake) -> Hello:
        facts = HostFacts(system="Linux", cpu="cpu", cores=1, ram_bytes=1)
        return Hello(protocol=PROTOCOL_VERSION, name="n", epoch=1, udp_port=0, tcp_port=0, software="t", facts=facts)

    def _on_state(self, state: ClientState) -> None:
        self.states.append(state)
        self.news.set()

    async def hung_up(self) -> ClientState:
        async with asyncio.timeout(20):
            while True:
                for state in self.states:
                    if state.text.startswith("hung up on"):
                        return state
                self.news.clear()
                await self.news.wait()

    @property
    def took(self) -> int:
        import time

        return self.traffic_budget.used_bytes(time.time_ns())


@contextlib.asynccontextmanager
async def attacked(
    attack: Attack, folder: Path, *, daily_bytes: int | None = None, welcome: bool = True
) -> AsyncIterator[tuple[Rig, Hostile]]:
    hostile = await Hostile(attack, welcome=welcome).start()
    rig = Rig(hostile.port, folder, daily_bytes)
    task = asyncio.create_task(rig.link.run())
    looking = asyncio.create_task(look(rig.link))
    try:
        yield rig, hostile
    finally:
        rig.link.leave()
        async with asyncio.timeout(10):
            await task
        looking.cancel()
        await hostile.stop()


async def look(link: CollectorClient) -> None:
    """As the daemon does every second."""
    while True:
        await asyncio.sleep(0.05)
        link.look()


async def big_messages(ws: ServerConnection) -> None:
    while True:
        await ws.send(b"x" * 900_000)


async def one_endless_message(ws: ServerConnection) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    await ws.send(pieces())


async def pings(ws: ServerConnection) -> None:
    while not ws.transport.is_closing():
        ws.transport.write(b"\x89\x00" * 1000)
        await asyncio.sleep(0.001)


async def large_pings(ws: ServerConnection) -> None:
    while not ws.transport.is_closing():
        ws.transport.write((b"\x89\x7d" + b"p" * 125) * 400)
        await asyncio.sleep(0.001)


async def pongs(ws: ServerConnection) -> None:
    while not ws.transport.is_closing():
        ws.transport.write((b"\x8a\x7d" + b"p" * 125) * 400)
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("attack", [big_messages, one_endless_message, pings, large_pings, pongs])
@pytest.mark.parametrize("welcome", [True, False])
async def test_a_flood_of_any_kind_is_hung_up_on_after_a_few_megabytes(
    attack: Attack, welcome: bool, tmp_path: Path
) -> None:
    """2.34 GB in 20 s came through before."""
    async with attacked(attack, tmp_path, welcome=welcome) as (rig, hostile):
        state = await rig.hung_up()
        await asyncio.sleep(0.3)  # many of the shortest waits between tries
        assert hostile.connections == 1
        assert rig.took < traffic_meter.BURST_BYTES + (4 << 20)
    # an endless message passes its own limit or that of the rate first, as the kernel hands it on
    assert re.search(r"it sent (a message of )?more than", state.text)
    assert "; tries again at " in state.text
    assert rig.strikes.last is not None
    assert rig.strikes.last.kind == "rate"


async def test_at_the_end_of_the_days_bytes_the_collector_is_hung_up_on(tmp_path: Path) -> None:
    async def slow(ws: ServerConnection) -> None:
        while True:
            await ws.send(b"x" * 10_000)
            await asyncio.sleep(0)

    async with attacked(slow, tmp_path, daily_bytes=1_000_000) as (rig, hostile):
        state = await rig.hung_up()
        await asyncio.sleep(0.3)
        assert hostile.connections == 1
        assert 1_000_000 <= rig.took < 1_000_000 + (1 << 20)
    assert "the 1 MB of 24 hours are used" in state.text


async def test_a_probe_whose_day_is_used_does_not_even_call(tmp_path: Path) -> None:
    import time

    async def nothing(ws: ServerConnection) -> None:
        await ws.wait_closed()

    hostile = await Hostile(nothing).start()
    rig = Rig(hostile.port, tmp_path, 1_000_000)
    rig.traffic_budget.spend("collector", "", 0, 1_000_000, time.time_ns())
    task = asyncio.create_task(rig.link.run())
    await rig.hung_up()
    assert hostile.connections == 0
    rig.link.leave()
    await task
    await hostile.stop()


async def test_an_honest_collector_of_ten_thousand_members_is_far_below(tmp_path: Path) -> None:
    """Plans of 96 members twice a second for a while, as in a swarm that forms, and one of the largest there can be."""

    def plan(count: int, hosts: int) -> bytes:
        peers = tuple(
            Peer(node_id=f"{n:016x}", name=f"member-{n}", hosts=tuple(f"203.0.{h}.{n % 250}" for h in range(hosts)),
                 udp_port=4000, tcp_port=4001, stamp_key=b"k" * 32, ssid_out=n + 1, ssid_in=n + 1)
            for n in range(count)
        )  # fmt: skip
        return encode(
            Plan(revision=1, peers=peers, stamp_interval_ms=1e3, window_ms=1e3, hop_bytes=1, hop_cadence_ms=1,
                 hop_every_ms=1, host_every_ms=1)
        )  # fmt: skip

    done = asyncio.Event()

    async def honest(ws: ServerConnection) -> None:
        for _ in range(80):
            await ws.send(plan(96, 2))
        await ws.send(plan(512, 16))
        done.set()
        await ws.wait_closed()

    async with attacked(honest, tmp_path) as (rig, _):
        async with asyncio.timeout(10):
            await done.wait()
        await asyncio.sleep(0.2)
        assert [state.kind for state in rig.states] == ["joined"]
        assert rig.took > 1_000_000


# ---------------------------------------------------------------- pure


def test_it_comes_back_later_and_later_over_restarts_up_to_a_limit(tmp_path: Path) -> None:
    now_ns, waits = T0, []
    for _ in range(14):
        held = Strikes.open("here", tmp_path)  # as after a restart
        waits.append(held.add("rate", "it sent too much", now_ns))
        assert held.wait_s(now_ns + NS_PER_S) == pytest.approx(waits[-1] - 1)
        assert Strikes.open("here", tmp_path).wait_s(now_ns + NS_PER_S) == pytest.approx(waits[-1] - 1)
        assert Strikes.open("elsewhere", tmp_path).wait_s(now_ns) == 0
        now_ns += round(waits[-1] * NS_PER_S)
    assert waits[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
    assert waits == sorted(waits)
    assert waits[-1] == MAX_S
    held = Strikes.open("here", tmp_path)
    assert held.wait_s(now_ns - 10**18) <= MAX_S  # the clock was set back by years
    assert held.add("rate", "again", now_ns + round((FORGIVEN_S + MAX_S + 1) * NS_PER_S)) == FIRST_S


def test_a_file_that_cannot_be_read_or_written_is_no_end(tmp_path: Path) -> None:
    (tmp_path / hangups.STATE_FILE).write_text("{")
    assert Strikes.open("here", tmp_path).wait_s(T0) == 0
    held = Strikes.open("here", tmp_path / "gone")
    assert held.add("rate", "too much", T0) == FIRST_S
    assert held.wait_s(T0) == FIRST_S


def test_the_day_is_over_at_its_last_byte_and_back_when_an_hour_has_gone() -> None:
    traffic_budget = TrafficBudget(1000)
    traffic_budget.spend("hop", "", 600, 0, T0)
    traffic_budget.spend("collector", "", 0, 399, T0 + HOUR_NS)
    assert not traffic_budget.over(T0 + HOUR_NS)
    traffic_budget.spend("collector", "", 0, 1, T0 + HOUR_NS)
    assert traffic_budget.over(T0 + HOUR_NS)
    assert not traffic_budget.over(T0 + (HOURS + 1) * HOUR_NS)
    back_s = traffic_budget.back_in_s(T0 + HOUR_NS)
    assert 23 * 3600 < back_s <= 24 * 3600
    assert not traffic_budget.over(T0 + HOUR_NS + round(back_s * NS_PER_S))


def test_strangers_and_the_collectors_own_limit_do_not_end_the_connection() -> None:
    """Or anybody could have a member hang up, by sending packets; an operator who asks for less would lose all."""
    traffic_budget = TrafficBudget(1000)
    traffic_budget.lower(0)
    traffic_budget.spend("stranger", "", 0, 5000, T0)
    assert traffic_budget.level(T0) == "spent"
    assert not traffic_budget.over(T0)
    assert not TrafficBudget(None).over(T0)
