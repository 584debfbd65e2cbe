"""Serve probes, viewers, operators, `/health`, `/metrics` and downloads; start and stop in order."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import secrets
import socket
from typing import Final, NoReturn

import msgspec
from aiohttp import WSCloseCode, web

from swarm_collector.downloads.downloads import Downloads
from swarm_collector.metrics import CONTENT_TYPE, exposition
from swarm_collector.services import health
from swarm_collector.services.periodic_tasks import PeriodicTasks
from swarm_collector.services.probe_service import ProbeService
from swarm_collector.services.viewer_service import ViewerService
from swarm_collector.sessions.operator_requests import OperatorRequests
from swarm_collector.sessions.probe_session import ProbeSession
from swarm_collector.sessions.viewer_session import ViewerSession
from swarm_collector.state import SwarmState
from swarm_collector.transport.connection_limits import ConnectionLimiter
from swarm_collector.transport.keepalive import SessionOver
from swarm_collector.transport.tls_listener import TlsListener
from swarm_collector.transport.websocket import WebSocketConnection
from swarm_protocol.addresses import address_text
from swarm_protocol.messages import operator_messages
from swarm_protocol.messages.codec import MAX_MESSAGE_BYTES
from swarm_protocol.messages.probe_messages import COLLECTOR_HEADER, NONCE_HEADER, OPERATE_PATH, PROBE_PATH
from swarm_protocol.messages.viewer_messages import VIEW_PATH
from swarm_protocol.text import safe
from swarm_protocol.trust.signing import NONCE_BYTES

BACKLOG: Final = 1024  # ten thousand probes reconnect at the same time after a restart
PINGED_PROBES: Final = 1_000
METRICS_S: Final = 0.5  # one text serves all requests for this time
STOPPING: Final = "the collector is stopping; reconnect shortly"
DRAIN_S: Final = 10.0  # for batches on their way into the store when the collector stops

_log = logging.getLogger("swarm_collector.server")


class ListenError(Exception):
    """The address cannot be listened on; one line that says what to do."""


class Server:
    def __init__(self, swarm_state: SwarmState) -> None:
        self._swarm_state = swarm_state
        self._probe_service = ProbeService(swarm_state)
        self._viewer_service = ViewerService(swarm_state)
        self._numbers = itertools.count(1)
        self._sessions: set[asyncio.Task[None]] = set()
        self.parts = swarm_state.parts
        app = web.Application()
        app.router.add_get(PROBE_PATH, self._probe)
        app.router.add_get(VIEW_PATH, self._view)
        app.router.add_post(OPERATE_PATH, self._operate)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        Downloads(swarm_state.settings.wheel, swarm_state.clock.steady_ns, self._may_last).add_to(app.router)
        app.on_response_prepare.append(_one_request_each)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        self.connection_limiter: ConnectionLimiter | None = None
        self.operator_requests = OperatorRequests(
            swarm_state.clock,
            swarm_state.token,
            swarm_state.membership,
            swarm_state.register,
            swarm_state.admissions,
            swarm_state.anomaly_monitor.of,
        )
        self._listener: TlsListener | None = None
        self._metrics_text = ("", 0.0)  # and until when it is valid

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address. Raises ListenError."""
        listening = listen_on(host, port)
        await self._runner.setup()
        handlers = self._runner.server
        assert handlers is not None
        settings = self._swarm_state.settings
        self.connection_limiter = ConnectionLimiter(settings.limits, handlers, proxied=settings.proxy_cert is not None)
        context = settings.certificate.context if settings.certificate is not None else None
        self._listener = TlsListener(listening, self.connection_limiter, context, plain=settings.insecure)
        self._listener.open()
        name = listening.getsockname()
        self._swarm_state.address = address_text(name[0], name[1])
        await self._swarm_state.stun.start(name[0], name[1])
        swarm_state = self._swarm_state
        if (url := swarm_state.store_client.shared_url) is not None:
            from swarm_storage.postgres.cluster_bus import PostgresBus  # psycopg is an extra

            bus = swarm_state.cluster.join(
                lambda messages, others: PostgresBus(url, swarm_state.address, messages, others)
            )
            self.parts.thread("hearing other collectors", lambda: bus.alive, bus.restart)
        self.parts.watch_callbacks(timers_end=False)
        self.parts.thread(
            "writing to the store", lambda: swarm_state.store_client.writing, swarm_state.store_client.restart_writing
        )
        self.parts.task("checking the store", swarm_state.store_watch.run)
        periodic = PeriodicTasks(swarm_state)
        self.parts.task("sending plans", periodic.dispatch)
        self.parts.task("sending frames", swarm_state.hub.run)
        self.parts.task("surveying", periodic.survey)
        self.parts.task("handing memory back", periodic.hand_back_memory)
        self.parts.task("challenging", swarm_state.attestation.run)
        self.parts.task("finding changes", swarm_state.changes.run)
        return name[0], name[1]

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Return the listening sockets."""
        return (self._listener.listening,) if self._listener is not None else ()

    async def failed(self) -> None:
        """Wait for a part that cannot be restarted and raise its error: without it, the collector would only look
        healthy."""
        await self.parts.failed()

    async def stop(self) -> None:
        """Accept no more connections, end all sessions, and wait for running commits."""
        if self._listener is not None:
            self._listener.close()
        self._swarm_state.stun.close()
        self._swarm_state.sessions.end_all(SessionOver(STOPPING, WSCloseCode.GOING_AWAY))
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=DRAIN_S)
        await self.parts.close()
        left = [*self._sessions]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.to_thread(self._swarm_state.cluster.close)
        await self._swarm_state.cluster.stop_reading()
        await self._runner.cleanup()

    # ------------------------------------------------------------ requests

    async def _probe(self, request: web.Request) -> web.StreamResponse:
        nonce = secrets.token_bytes(NONCE_BYTES)
        # probes send heartbeats: timers for ten thousand of them would take 0.03 core and find little
        ping = self._swarm_state.probe_count < PINGED_PROBES
        headers = {NONCE_HEADER: nonce.hex(), COLLECTOR_HEADER: self._swarm_state.settings.collector_id.hex()}
        wire = await self._wire(request, headers, ping=ping)
        return self._begin(ProbeSession(self._probe_service, next(self._numbers), wire, nonce))

    async def _view(self, request: web.Request) -> web.StreamResponse:
        wire = await self._wire(request, {}, ping=True)
        return self._begin(ViewerSession(self._viewer_service, next(self._numbers), wire, self.operator_requests.knows))

    async def _wire(self, request: web.Request, headers: dict[str, str], *, ping: bool) -> WebSocketConnection:
        """Do the handshake; from then on the connection is no longer aiohttp's."""
        if "Origin" in request.headers:  # a web page in somebody's browser that tries to reach a collector on loopback
            raise web.HTTPForbidden(text="not for web pages\n")
        # no compression: frames are packed already, and a small packed message must not become a large one here
        handshake = web.WebSocketResponse(compress=False)
        if not handshake.can_prepare(request):
            raise web.HTTPUpgradeRequired(text="this is a WebSocket; see swarm-probe --join and swarmtop --connect\n")
        handshake.headers.update(headers)
        await handshake.prepare(request)
        if request.transport is None:  # closed meanwhile
            raise asyncio.CancelledError
        connection_limiter, pulse, transport = (
            self.connection_limiter,
            self._swarm_state.settings.pulse,
            request.transport,
        )
        assert connection_limiter is not None
        wire = WebSocketConnection(
            transport,
            MAX_MESSAGE_BYTES,
            pulse.ping_s if ping else 0.0,
            quota=connection_limiter.quota(transport),
            send_s=pulse.send_s,
            on_admitted=lambda: connection_limiter.admitted(transport),
        )
        connection_limiter.hand_over(request, wire)
        return wire

    def _begin(self, session: ProbeSession | ViewerSession) -> NoReturn:
        """Start the session in its own task. The request ends here, unanswered: see `ConnectionLimiter.hand_over`."""
        task = asyncio.create_task(session.run())
        self._sessions.add(task)
        task.add_done_callback(self._ended)
        raise asyncio.CancelledError

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sessions.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a session failed", exc_info=error)

    async def _operate(self, request: web.Request) -> web.Response:
        if not self.operator_requests.may(request):
            raise web.HTTPForbidden(text="only for the operator\n")
        try:
            asked = operator_messages.request_decoder.decode(
                await request.content.read(operator_messages.MAX_REQUEST_BYTES)
            )
            answer = await self.operator_requests.answer(asked)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            answer = operator_messages.No(
                text=f"the collector does not know this request ({safe(str(error), 100)}); update both"
            )
        response = web.Response(body=msgspec.json.encode(answer), content_type="application/json")
        response.force_close()
        return response

    def _may_last(self, transport: asyncio.BaseTransport, seconds: float) -> None:
        assert self.connection_limiter is not None
        self.connection_limiter.may_last(transport, seconds)

    async def _health(self, request: web.Request) -> web.Response:
        found = health.health(self._swarm_state)
        response = web.json_response(found, status=200 if found["status"] == "ok" else 503)
        response.force_close()
        return response

    async def _metrics(self, request: web.Request) -> web.Response:
        assert self.connection_limiter is not None
        now = asyncio.get_running_loop().time()
        text, valid_until_s = self._metrics_text
        if now >= valid_until_s:  # counting ten thousand nodes takes 10 ms, and anybody may ask
            text = exposition(health.metrics(self._swarm_state, self.connection_limiter))
            self._metrics_text = (text, now + METRICS_S)
        response = web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})
        response.force_close()
        return response


async def _one_request_each(_: web.Request, response: web.StreamResponse) -> None:
    """Close the connection after one response, so that a packet with a thousand requests is answered once."""
    if not isinstance(response, web.WebSocketResponse):
        response.force_close()
        # aiohttp does not write it at this stage, and clients would reuse the connection
        response.headers["Connection"] = "close"


def listen_on(host: str, port: int) -> socket.socket:
    """Return a bound socket. Raises ListenError with the reason in one line."""
    where = f"cannot listen on {address_text(host, port)}"
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(f"{where} (unknown host name); give an address of this machine") from error
    family, kind, protocol, _, address = found[0]
    try:
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ListenError(f"{where} ({_why(error)}); give another address") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        listening.bind(address)
        listening.listen(BACKLOG)  # SO_REUSEADDR lets two sockets bind one port; only one of them can listen
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"{where} (in use); stop what listens there, or give another --listen") from error
        raise ListenError(f"{where} ({_why(error)}); give an address of this machine") from error
    return listening


def _why(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
