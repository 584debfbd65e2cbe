"""Run hops and transfers over QUIC on the probe's UDP port, where a NAT blocks TCP and hole punching works.

Imported only when the first is needed: aioquic and its cryptography take 10 MB and 50 ms. A connection begins with the
same preamble as over TCP, in which both ends prove that they hold the pair's key; the certificate is made for the
connection and proves nothing. Only addresses that lately sent a signed STAMP packet are answered there.

A hop over QUIC compared with TCP on a similar path of the lab (16 KB over 80 ms, every 150 ms): p50 83.7 to 85.0 ms,
TCP 83.2; p95 98 to 103, TCP 83 to 88 (pacing); first message 165 to 174, TCP 161 (ten packets of 1,200 bytes at first).
An engine can use such a path only through something that punches holes itself (WireGuard, libp2p). A transfer's rate is
always a lower bound: it may be this program that limits it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # re-exported from the C extension
from aioquic.quic import events
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header

from swarm_probe.light_imports import CERT_NONE
from swarm_probe.sockets import Target
from swarm_probe.streams.certificate import made_up_certificate
from swarm_probe.streams.channel import Channel, Unreachable
from swarm_probe.streams.tcp_endpoint import DIAL_S, PREAMBLE_S, Caller, Purpose, introduce
from swarm_probe.udp.udp_socket import Arrival

ALPN: Final = "swarmtop"
CID_BYTES: Final = 8
IDLE_S: Final = 60.0  # hops are at most ten seconds apart
WINDOW_BYTES: Final = 4 << 20  # of flow control: a transfer's most
UNSENT_BYTES: Final = 64 << 10  # kept ready; more would be sent after we decided to stop
LINGER_S: Final = 3.0
MAX_CONNECTIONS: Final = 16
COLLECT_AFTER_S: Final = 5.0  # those that end within this time are freed together
_MAX_DATAGRAM_BYTES: Final = 1_200  # what every path carries (RFC 9000 §14)
_STREAM: Final = 0  # the client's first, and the only one

log = logging.getLogger(__name__)


class QuicPort:
    """QUIC on one UDP port. `serve` handles what a peer has opened, until it is done with it."""

    def __init__(
        self,
        send: Callable[[bytes, Target], OSError | None],
        serve: Callable[[Channel], Awaitable[None]],
        counts: Counter[str],
    ) -> None:
        self._send = send
        self._serve = serve
        self._counts = counts
        self._ends: dict[bytes, _End] = {}  # by each connection id of ours
        self._tasks: set[asyncio.Task[None]] = set()
        self._collecting: asyncio.TimerHandle | None = None
        self._client = _configuration(is_client=True)
        self._client.verify_mode = CERT_NONE
        self._server = _configuration(is_client=False)
        self._server.certificate, self._server.private_key = made_up_certificate(ALPN)

    async def dial(self, to: Target, caller: Caller, purpose: Purpose, size: int) -> QuicStream:
        """Connect and prove both ends. Raises PeerError. `caller` is this probe, as the other end knows it."""
        end = _End(self, QuicConnection(configuration=self._client), to)
        end.quic.connect(to.sockaddr, now=_now())
        stream = QuicStream(end, self._counts)
        self._ends[end.quic.host_cid] = end
        try:
            end.transmit()
            async with asyncio.timeout(DIAL_S):
                await end.connected.wait()
            end.require_alive()
            async with asyncio.timeout(PREAMBLE_S):
                await introduce(stream, caller, purpose, size)
        except TimeoutError as error:
            stream.close()
            where = f"{to.sockaddr[0]} UDP port {to.sockaddr[1]}"
            raise Unreachable(f"no QUIC connection to {where} through the punched hole (no answer)") from error
        except BaseException:
            stream.close()
            raise
        return stream

    def receive(self, arrival: Arrival) -> bool:
        """Take a datagram of a QUIC connection; return False for others."""
        try:
            header = pull_quic_header(Buffer(data=arrival.data), host_cid_length=CID_BYTES)
        except ValueError:
            return False
        end = self._ends.get(header.destination_cid)
        if end is None:
            fresh = header.packet_type == QuicPacketType.INITIAL and len(arrival.data) >= SMALLEST_MAX_DATAGRAM_SIZE
            if not fresh or header.version not in self._server.supported_versions:
                return False
            if len(set(self._ends.values())) >= MAX_CONNECTIONS:
                self._counts["quic_refused_full"] += 1
                return True
            connection = QuicConnection(
                configuration=self._server, original_destination_connection_id=header.destination_cid
            )
            end = _End(self, connection, arrival.source)
            self._ends[header.destination_cid] = self._ends[connection.host_cid] = end
            self._spawn(self._converse(end))
        end.receive(arrival)
        return True

    @property
    def connected(self) -> bool:
        """Return whether there is any connection, opening ones among them."""
        return bool(self._ends)

    async def close(self) -> None:
        for end in set(self._ends.values()):
            end.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._collecting is not None:
            self._collecting.cancel()
            self._collecting = None

    def transmit(self, data: bytes, to: Target) -> None:
        if self._send(data, to) is None:
            self._counts["quic_bytes_sent"] += len(data)

    def learn(self, cid: bytes, end: _End) -> None:
        self._ends[cid] = end

    def forget(self, end: _End) -> None:
        for cid in [cid for cid, known in self._ends.items() if known is end]:
            del self._ends[cid]
        if self._collecting is None:
            self._collecting = asyncio.get_running_loop().call_later(COLLECT_AFTER_S, self._collect)

    def _collect(self) -> None:
        """Free the connections that have ended: aioquic's refer to themselves, 80 kB each, and Python, which counts
        objects and not their size, would keep dozens of them."""
        self._collecting = None
        gc.collect()

    async def _converse(self, end: _End) -> None:
        try:
            async with asyncio.timeout(PREAMBLE_S):
                await end.connected.wait()
            await self._serve(QuicStream(end, self._counts))
            async with asyncio.timeout(LINGER_S):  # what was sent last may have to be sent again
                await end.until_gone()
        except TimeoutError:
            self._counts["quic_connections_timed_out"] += 1
        finally:
            end.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a QUIC connection ended with an internal error", exc_info=error)


class _End:
    """One connection and its timer: bytes and time into aioquic's core, datagrams out."""

    def __init__(self, port: QuicPort, quic: QuicConnection, to: Target) -> None:
        self.quic = quic
        self.connected = asyncio.Event()  # or it has ended
        self.moved = asyncio.Event()  # set when something came in, went out or ended
        self.received: deque[tuple[memoryview, int]] = deque()  # bytes, and when they arrived (wall clock)
        self.ended = False  # the other side has sent everything
        self.failure = ""  # why there is no connection any more
        self._port = port
        self._to = to
        self._timer: asyncio.TimerHandle | None = None

    def receive(self, arrival: Arrival) -> None:
        self.quic.receive_datagram(arrival.data, arrival.source.sockaddr, _now())
        self._take_events(arrival.wall_ns)
        self.transmit()

    def transmit(self) -> None:
        for data, address in self.quic.datagrams_to_send(_now()):
            self._port.transmit(data, Target(self._to.family, address))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.quic.get_timer()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._timed)
        self.moved.set()

    def _timed(self) -> None:
        self._timer = None
        self.quic.handle_timer(_now())
        self._take_events(time.time_ns())
        self.transmit()

    def _take_events(self, at_ns: int) -> None:
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, events.HandshakeCompleted):
                self.connected.set()
            elif isinstance(event, events.StreamDataReceived) and event.stream_id == _STREAM:
                if event.data:
                    self.received.append((memoryview(event.data), at_ns))
                self.ended = self.ended or event.end_stream
            elif isinstance(event, events.StreamReset):
                self.ended = True
            elif isinstance(event, events.ConnectionIdIssued):
                self._port.learn(event.connection_id, self)
            elif isinstance(event, events.ConnectionTerminated):
                self.failure = event.reason_phrase or "it ended"
                self.ended = True
                self.connected.set()
                self._port.forget(self)

    def unsent_bytes(self, written: int) -> int:
        """Return how many of `written` bytes have not left yet."""
        stream = self.quic._streams.get(_STREAM)  # aioquic exposes it nowhere else
        return 0 if stream is None else max(0, written - stream.sender.next_offset)

    async def until_gone(self) -> None:
        """Wait until the other end has closed the connection."""
        while not self.failure:
            self.moved.clear()
            await self.moved.wait()

    def require_alive(self) -> None:
        """Check the connection. Raises Unreachable."""
        if self.failure:
            raise Unreachable(f"the QUIC connection broke ({self.failure})")

    def close(self) -> None:
        if not self.failure:
            self.quic.close()
            self.transmit()
            self.failure = "closed here"
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._port.forget(self)
        self.moved.set()


class QuicStream:
    """The one stream of a connection, as a `Channel`."""

    kernel = None

    def __init__(self, end: _End, counts: Counter[str]) -> None:
        self._end = end
        self._counts = counts
        self._written = 0

    async def write(self, data: bytes | memoryview) -> None:
        end = self._end
        end.require_alive()
        end.quic.send_stream_data(_STREAM, bytes(data))
        self._written += len(data)
        self._counts["quic_stream_bytes_sent"] += len(data)
        end.transmit()
        while end.unsent_bytes(self._written) > UNSENT_BYTES:
            await self._moved()
            end.require_alive()

    async def read_stamped(self, buffer: memoryview) -> tuple[int, int]:
        end = self._end
        while not end.received:
            if end.ended:
                return 0, 0
            await self._moved()
        data, at_ns = end.received[0]
        got = min(len(data), len(buffer))
        buffer[:got] = data[:got]
        if got == len(data):
            end.received.popleft()
        else:
            end.received[0] = data[got:], at_ns
        self._counts["quic_stream_bytes_received"] += got
        return got, max(0, time.time_ns() - at_ns)

    async def read_into(self, buffer: memoryview) -> int:
        return (await self.read_stamped(buffer))[0]

    def stamp_arrivals(self) -> None:
        """Do nothing: every datagram is stamped."""

    def finish_writing(self) -> None:
        self._end.require_alive()
        self._end.quic.send_stream_data(_STREAM, b"", end_stream=True)
        self._end.transmit()

    def close(self) -> None:
        self._end.close()

    abort = close  # CONNECTION_CLOSE leaves nothing to be sent (RFC 9000, section 10.2)

    async def _moved(self) -> None:
        self._end.moved.clear()
        await self._end.moved.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _configuration(*, is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=[ALPN],
        congestion_control_algorithm="cubic",  # as Linux has it for TCP
        connection_id_length=CID_BYTES,
        idle_timeout=IDLE_S,
        max_data=WINDOW_BYTES,
        max_stream_data=WINDOW_BYTES,
        max_datagram_size=_MAX_DATAGRAM_BYTES,
    )
