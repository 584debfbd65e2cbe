"""The sockets of the collector: `/probe` and `/view` (WebSockets), `/health`, `/metrics`, and their orderly end."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import secrets
import socket
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from swarm_collector import figures, sessions
from swarm_collector.door import Door
from swarm_collector.guard import Guard
from swarm_collector.house import House
from swarm_collector.metrics import CONTENT_TYPE, exposition
from swarm_collector.operator import OperatorDesk
from swarm_collector.probes import NONCE, ProbeSession
from swarm_collector.viewers import ViewerSession
from swarm_protocol import operate
from swarm_protocol.coding import MAX_MESSAGE_BYTES
from swarm_protocol.messages import NONCE_HEADER, OPERATE_PATH, PROBE_PATH
from swarm_protocol.signing import NONCE_BYTES
from swarm_protocol.text import safe
from swarm_protocol.viewing import VIEW_PATH

BACKLOG: Final = 1024  # ten thousand probes come back at once after a restart
PINGED_PROBES: Final = 1_000
DRAIN_S: Final = 10.0  # for what is on its way into the store when the collector is asked to end

_log = logging.getLogger("swarm_collector.server")


class ListenError(Exception):
    """The address cannot be listened on; one line that says what to do."""


class Server:
    def __init__(self, house: House) -> None:
        self._house = house
        self._numbers = itertools.count(1)
        self._sessions: set[asyncio.Task[object]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        app = web.Application()
        app.router.add_get(PROBE_PATH, self._probe)
        app.router.add_get(VIEW_PATH, self._view)
        app.router.add_post(OPERATE_PATH, self._operate)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        self.guard: Guard | None = None
        self.desk = OperatorDesk(house)
        self._door: Door | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listens; the address it listens on. Raises ListenError."""
        listening = listen_on(host, port)
        await self._runner.setup()
        handlers = self._runner.server
        assert handlers is not None
        self.guard = Guard(self._house.limits, handlers)
        certificate = self._house.settings.certificate
        if certificate is not None:
            self._door = Door(listening, self.guard, certificate.context, plain=self._house.settings.insecure)
            self._door.open()
        else:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self.guard, sock=listening, backlog=BACKLOG)
        name = listening.getsockname()
        self._house.address = address_text(name[0], name[1])
        await self._house.stun.start(name[0], name[1])
        house = self._house
        if (url := house.archive.shared_url) is not None:
            from swarm_storage.postgres_bus import PostgresBus  # psycopg is an extra

            house.cluster.join(lambda letters, others: PostgresBus(url, house.address, letters, others))
        parts = (house.conduct(), house.hub.run(), house.look_over(), house.referee.run())
        self._tasks = [asyncio.create_task(part) for part in parts]
        return name[0], name[1]

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """What is listened on."""
        return tuple(self._server.sockets) if self._server is not None else ()

    async def failed(self) -> None:
        """Ends when one of the lasting tasks has, and raises why: a collector without them only looks alive."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()

    async def stop(self) -> None:
        """Takes nobody new, lets go of everybody, waits for what is being committed."""
        if self._server is not None:
            self._server.close()
        if self._door is not None:
            self._door.close()
        self._house.stun.close()
        self._house.end_sessions("the collector is stopping; come back in a moment")
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=DRAIN_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._house.cluster.close)
        await self._runner.cleanup()

    # ------------------------------------------------------------ requests

    async def _probe(self, request: web.Request) -> web.StreamResponse:
        return await self._session(request, ProbeSession)

    async def _view(self, request: web.Request) -> web.StreamResponse:
        return await self._session(request, ViewerSession)

    async def _session(
        self,
        request: web.Request,
        kind: Callable[[House, int, web.WebSocketResponse, web.Request], ProbeSession | ViewerSession],
    ) -> web.StreamResponse:
        if "Origin" in request.headers:  # a web page in somebody's browser, reaching for a collector on loopback
            raise web.HTTPForbidden(text="not for web pages\n")
        # The probes of a large swarm are heard of by their own heartbeats; a ping each beside them costs as much again.
        ping = kind is ViewerSession or self._house.probe_count < PINGED_PROBES
        ws = sessions.socket_for(self._house.pulse, MAX_MESSAGE_BYTES, ping=ping)
        if not ws.can_prepare(request):
            raise web.HTTPUpgradeRequired(text="this is a WebSocket; see swarm-probe --join and swarmtop --connect\n")
        if kind is ProbeSession:
            request[NONCE] = secrets.token_bytes(NONCE_BYTES)
            ws.headers[NONCE_HEADER] = request[NONCE].hex()
        await ws.prepare(request)
        assert self.guard is not None
        self.guard.settle(request)
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            await kind(self._house, next(self._numbers), ws, request).run()
        finally:
            self._sessions.discard(task)
        return ws

    async def _operate(self, request: web.Request) -> web.Response:
        if not self.desk.may(request):
            raise web.HTTPForbidden(text="only for the operator\n")
        try:
            asked = operate.request_decoder.decode(await request.content.read(operate.MAX_REQUEST_BYTES))
            answer = self.desk.answer(asked)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            answer = operate.No(text=f"the collector does not know this request ({safe(str(error), 100)}); update both")
        response = web.Response(body=msgspec.json.encode(answer), content_type="application/json")
        response.force_close()
        return response

    async def _health(self, request: web.Request) -> web.Response:
        health = self._house.health()
        response = web.json_response(health, status=200 if health["store"] is None else 503)
        response.force_close()
        return response

    async def _metrics(self, request: web.Request) -> web.Response:
        assert self.guard is not None
        text = exposition(figures.metrics(self._house, self.guard))
        response = web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})
        response.force_close()
        return response


def listen_on(host: str, port: int) -> socket.socket:
    """A bound socket. Raises ListenError with the reason in one line."""
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


def address_text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
