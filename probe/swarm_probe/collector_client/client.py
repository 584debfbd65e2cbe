"""Keep the one connection to the collector: join, send the spool in order, and receive plans and leases.

This is the shell around a WebSocket. Timeouts and pauses are in `client_times`, the order of batches in `batch_sender`.
A collector that is gone, silent or faulty costs a log line for each change of state and nothing else: measuring and
spooling continue without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode

from swarm_probe.collector_client.batch_sender import BatchSender
from swarm_probe.collector_client.certificate_pinning import Certificates, OldCollector
from swarm_probe.collector_client.client_times import Backoff, ClientTimes
from swarm_probe.collector_client.connection_errors import Ended, closing_words, resting_words, why_not
from swarm_probe.collector_client.dial import dial
from swarm_probe.collector_client.hangups import Strikes, stay_away
from swarm_probe.collector_client.join_url import collector_of
from swarm_probe.collector_client.traffic_meter import Meter
from swarm_probe.collector_client.websocket import ClientConnection, MeteredConnection, Opening, open_websocket
from swarm_probe.light_imports import proxies_set
from swarm_probe.measure.transfers.uplink import look
from swarm_probe.owner_limits.traffic_budget import TrafficBudget
from swarm_probe.spool import Spool
from swarm_probe.wake_ups import WakeUps
from swarm_protocol.messages.codec import MAX_MESSAGE_BYTES, DecodeError, encode
from swarm_protocol.messages.probe_messages import (
    Ack,
    Challenge,
    ChallengeGo,
    ChallengeOpen,
    CollectorMessage,
    Heartbeat,
    Hello,
    Leaving,
    Plan,
    ProbeMessage,
    Refused,
    Relay,
    SlowDown,
    UplinkGrant,
    UplinkLease,
    Welcome,
    decode_from_collector,
)
from swarm_protocol.text import safe
from swarm_protocol.trust.certificate_pins import PinError
from swarm_protocol.trust.loopback import is_loopback
from swarm_protocol.trust.signing import Handshake, SigningError
from swarm_protocol.units import NS_PER_S


class ClientState(msgspec.Struct, frozen=True):
    """The state of the connection; `text` is one line for people, without secrets and with peers' words made safe."""

    kind: Literal["connecting", "joined", "away", "refused"]
    text: str


class CollectorClient:
    """Runs for the life of the probe. The daemon calls `more`, `send` and `leave`, and is called back."""

    def __init__(
        self,
        url: str,
        *,
        hello: Callable[[Handshake], Awaitable[Hello]],
        certificates: Certificates,
        spool: Spool,
        on_plan: Callable[[Plan], None],
        on_lease: Callable[[UplinkLease], None],
        on_grant: Callable[[UplinkGrant], None] = lambda _: None,
        on_state: Callable[[ClientState], None],
        on_relay: Callable[[Relay], None] = lambda _: None,
        on_challenge: Callable[[Challenge | ChallengeGo | ChallengeOpen], None] = lambda _: None,
        rng: random.Random,
        times: ClientTimes | None = None,
        traffic_budget: TrafficBudget | None = None,
        strikes: Strikes | None = None,
        wake_ups: WakeUps | None = None,
    ) -> None:
        """Create the client. `traffic_budget` None: no daily limit. `strikes`: past hang-ups on this collector.
        `wake_ups`: heartbeats go along with them."""
        self._url = url
        self._who = collector_of(url)
        self._hello = hello  # signed for each connection
        self._certificates = certificates
        self._joined_once = False
        self._spool = spool
        self._on_plan = on_plan
        self._on_lease = on_lease
        self._on_grant = on_grant
        self._on_state = on_state
        self._on_challenge = on_challenge
        self._on_relay = on_relay
        self._times = times or ClientTimes()
        self._backoff = Backoff(self._times.retry_base_s, self._times.retry_cap_s, rng)
        self._traffic_budget = traffic_budget if traffic_budget is not None else TrafficBudget(daily_bytes=None)
        self._strikes = strikes if strikes is not None else Strikes(self._who)
        self._wake_ups = wake_ups if wake_ups is not None else WakeUps()
        self._batches = BatchSender(spool, rng, self._times)
        self._meter = Meter(self._traffic_budget, time.time_ns, time.monotonic_ns)
        self.heartbeat_s = 0.0  # their interval, as the collector last said
        self._stopping = asyncio.Event()
        self._ws: MeteredConnection | None = None
        self.welcome: Welcome | None = None  # of the last session; None: not joined now
        self.sent_bytes = 0  # of messages, since the start
        self.received_bytes = 0
        self.ignored = 0  # invalid messages

    def carried(self) -> tuple[int, int]:
        """Return the bytes of messages sent and received since the start."""
        return self.sent_bytes, self.received_bytes

    @property
    def collector_host(self) -> str:
        """Return the address that the connection leads to; empty: not connected, or through a proxy, whose address says
        nothing about where the collector is."""
        if proxies_set() and not is_loopback(urlsplit(self._url).hostname or ""):
            return ""
        name = self._ws.remote_address if self._ws is not None else None
        return str(name[0]) if name else ""

    @property
    def rtt_ns(self) -> int | None:
        """Return the recent lowest round trip of this TCP connection, by the kernel; by pings if the kernel does not
        report it."""
        if self._ws is None:
            return None
        connected = self._ws.transport.get_extra_info("socket")
        try:
            view = look(connected) if connected is not None else None
        except OSError:  # closed a moment ago; it will be noticed once the hello is signed, or by the receiver
            return None
        if view is not None and view.min_rtt_ns:
            return view.min_rtt_ns
        return round(self._ws.latency * NS_PER_S) or None

    def more(self) -> None:
        """Signal that the spool holds something new."""
        self._batches.more.set()

    def leave(self) -> None:
        """Say goodbye and end `run`."""
        self._stopping.set()

    async def send(self, message: ProbeMessage) -> bool:
        """Send a message; return False if not connected or the connection broke. It is not sent later."""
        if self._ws is None:
            return False
        try:
            await self._say(self._ws, encode(message))
        except ConnectionClosed:
            return False
        return True

    async def run(self) -> str | None:
        """Run until `leave` (None) or a final refusal (its reason)."""
        while not self._stopping.is_set():
            if (rest_s := self._rest_s()) > 0:
                await self._pause(rest_s)
                continue
            try:
                await self._connection()
            except Ended as ended:
                if ended.final:
                    self._on_state(ClientState("refused", str(ended)))
                    return str(ended)
                self._on_state(ClientState("away", str(ended)))
                if self._meter.breach is None:
                    await self._pause(self._backoff.next_s(min(ended.retry_ms / 1000, self._times.retry_cap_s)))
        return None

    def look(self) -> None:
        """Account for what the connection carried, and hang up if it is too much; call it about once a second."""
        if self._ws is not None:
            self._ws.look()

    def _rest_s(self) -> float:
        """Return how long to stay away from the collector (it sent too much, or the day is used up), and log it."""
        now_ns = time.time_ns()
        wait_s, why = stay_away(self._strikes, self._traffic_budget, self._meter.day_used, now_ns)
        if wait_s > 0:
            self._on_state(ClientState("away", resting_words(self._who, why, now_ns, wait_s)))
        return wait_s

    async def _pause(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._stopping.wait()

    def _ended_by_us(self) -> Ended | None:
        """End the connection because it took more than it may."""
        if self._meter.breach is None:
            return None
        kind, why = self._meter.breach
        now_ns = time.time_ns()
        return Ended(resting_words(self._who, why, now_ns, self._strikes.add(kind, why, now_ns)))

    # ------------------------------------------------------------ one connection

    async def _connection(self) -> None:
        """Run one connection. Raises Ended, or returns after `leave`."""
        opening = asyncio.create_task(self._open())
        ws: MeteredConnection | None = await self._unless_stopping(opening)
        if ws is None:
            return
        began = time.monotonic()
        self._ws = ws
        try:
            await self._converse(ws)
        except ConnectionClosed as error:
            if error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG and not error.rcvd_then_sent:
                self._meter.too_large()
            if (hung_up := self._ended_by_us()) is not None:
                raise hung_up from error
            raise Ended(f"{self._who} closed the connection{closing_words(error)}") from error
        finally:
            self._meter.look(ws.transport.get_extra_info("socket"))
            self._ws = self.welcome = None
            if time.monotonic() - began >= self._times.steady_s:
                self._backoff.reset()
            with contextlib.suppress(WebSocketException, OSError):  # it has ended either way
                await ws.close()

    async def _open(self) -> MeteredConnection:
        times = self._times
        self._meter.begin()
        dialled = None
        try:
            dialled = await dial(self._url, times.open_s)
            how = Opening(
                url=self._url,
                tls=self._certificates.context(),
                max_bytes=MAX_MESSAGE_BYTES,
                open_s=times.open_s,
                ping_s=times.ping_s,
                ping_wait_s=times.ping_wait_s,
                close_s=times.leave_s,
            )
            connection = await open_websocket(how, self._meter, dialled.own if dialled is not None else None)
        except (OSError, WebSocketException, ImportError) as error:  # ImportError: a SOCKS proxy, without its package
            self._meter.failed(dialled.seen if dialled is not None else None)
            if (hung_up := self._ended_by_us()) is not None:
                raise hung_up from error
            raise Ended(f"cannot reach {self._who} ({why_not(error)})") from error
        finally:
            if dialled is not None:
                dialled.seen.close()
        assert isinstance(connection, MeteredConnection)
        return connection

    async def _unless_stopping(self, task: asyncio.Task[Any]) -> Any:
        """Return the task's result; cancel it and return None if `leave` comes first."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for each in (task, stopping):
                each.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)

    async def _converse(self, ws: ClientConnection) -> None:
        try:
            hello = await self._hello(self._certificates.handshake(ws))
        except (
            PinError,
            OldCollector,
        ) as error:  # a probe that has joined before keeps trying: a captive portal must not end it
            raise Ended(str(error), final=not self._joined_once) from error
        except SigningError as error:
            raise Ended(f"cannot authenticate to {self._who} ({safe(str(error), 120)})") from error
        with contextlib.suppress(ConnectionClosed):  # the receiver learns why
            await self._say(ws, encode(hello))
        joining = asyncio.create_task(self._receive_welcome(ws))
        welcome = await self._unless_stopping(joining)
        if welcome is None:
            return
        self.welcome = welcome
        self._joined_once = True
        self._spool.committed(hello.epoch, welcome.committed_seq)
        self._batches.begin(columns=welcome.columns)
        self._on_state(ClientState("joined", f"joined {self._who} as {safe(welcome.name)} (node {welcome.node_id})"))
        self.heartbeat_s = _heartbeat_s(welcome.heartbeat_ms)
        await self._until_first_ends(self._receive(ws), self._feed(ws), self._beat(ws), self._goodbye(ws))

    async def _until_first_ends(self, *parts: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive_welcome(self, ws: ClientConnection) -> Welcome:
        try:
            async with asyncio.timeout(self._times.open_s):
                while not isinstance(message := await self._next(ws), Welcome):
                    if message is not None:
                        self._hear(message)
                return message
        except TimeoutError as error:
            raise Ended(f"{self._who} does not answer as a collector within {self._times.open_s:g} s") from error

    async def _next(self, ws: ClientConnection) -> CollectorMessage | None:
        """Return the next message; None for an invalid one. Raises Ended if it is a refusal."""
        data = await ws.recv()
        self.received_bytes += len(data)
        try:
            if isinstance(data, str):
                raise DecodeError("a text message")
            message = decode_from_collector(data)
        except DecodeError:
            self.ignored += 1
            return None
        if isinstance(message, Refused):
            reason = safe(message.reason)
            words = f"{self._who} refused this probe: {reason}"
            raise Ended(words, final=message.final, retry_ms=message.retry_ms)
        return message

    async def _receive(self, ws: ClientConnection) -> None:
        while True:
            message = await self._next(ws)
            if message is not None:
                self._hear(message)

    def _hear(self, message: CollectorMessage) -> None:
        match message:
            case Ack():
                self._batches.acknowledged(message)
            case SlowDown():
                self._batches.slow_down(message)
            case Plan():
                if message.heartbeat_ms is not None:
                    self.heartbeat_s = _heartbeat_s(message.heartbeat_ms)
                self._on_plan(message)
            case Relay():
                self._on_relay(message)
            case UplinkLease():
                self._on_lease(message)
            case UplinkGrant():
                self._on_grant(message)
            case Challenge() | ChallengeGo() | ChallengeOpen():
                self._on_challenge(message)
            case _:
                self.ignored += 1

    async def _feed(self, ws: ClientConnection) -> None:
        """Send what the spool holds, a few batches ahead of the acknowledgements."""
        while True:
            step = self._batches.next(time.monotonic())
            if isinstance(step, bytes):
                await self._send(ws, step)
            elif step is not None and step <= 0:
                raise Ended(f"{self._who} acknowledged nothing for {self._times.ack_wait_s:g} s")
            else:
                await self._batches.changed(step)

    async def _beat(self, ws: ClientConnection) -> None:
        while True:
            await self._send(ws, encode(Heartbeat(at_ns=time.time_ns(), spooled=self._spool.waiting)))
            await self._wake_ups.pause(self.heartbeat_s)

    async def _goodbye(self, ws: ClientConnection) -> None:
        """Send what is left if that is quick; the rest stays in the spool for the next start."""
        await self._stopping.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._times.leave_s):
                while self._spool.next_after(self._spool.committed_seq) is not None:
                    await self._batches.next_ack()
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout(self._times.leave_s):
                await self._say(ws, encode(Leaving(reason="stopped by its owner")))

    async def _say(self, ws: ClientConnection, data: bytes) -> None:
        self.sent_bytes += len(data)
        self._meter.sent(len(data))
        await ws.send(data)

    async def _send(self, ws: ClientConnection, data: bytes) -> None:
        """Send. If the connection is gone, wait to be cancelled: the receiver knows the reason and reports it."""
        try:
            await self._say(ws, data)
        except ConnectionClosed:
            await asyncio.Event().wait()


def _heartbeat_s(interval_ms: float) -> float:
    """Return the interval of heartbeats in seconds, within what suits the probe, whatever a collector says."""
    return min(max(interval_ms / 1000, 0.5), 60.0)
