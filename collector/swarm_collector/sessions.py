"""What a probe's session and a viewer's session have in common: a WebSocket that ends cleanly, whoever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from swarm_protocol.text import safe

CLOSE_WITHIN_S: Final = 2.0  # a peer that does not answer a close is not waited for any longer


class SessionOver(Exception):
    """This session has to end; the text is sent as the close reason."""

    def __init__(self, reason: str, code: int = WSCloseCode.POLICY_VIOLATION) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Pulse:
    """How a dead peer is noticed."""

    ping_s: float = 15.0  # a ping this often; half of it for the answer
    silence_s: float = 30.0  # a probe that sends no whole message for so long has stopped, whatever its TCP says
    send_s: float = 30.0  # a peer that takes nothing for so long is gone


def socket_for(pulse: Pulse, max_bytes: int, *, ping: bool = True) -> web.WebSocketResponse:
    # no compression: frames are packed already, and a small packed message must not become a large one here
    return web.WebSocketResponse(
        heartbeat=pulse.ping_s if ping else None,
        max_msg_size=max_bytes,
        compress=False,
        timeout=CLOSE_WITHIN_S,
        autoclose=True,
    )


async def receive(ws: web.WebSocketResponse, within_s: float | None) -> bytes | None:
    """The next message; None when the peer has closed. Raises SessionOver for silence and for what is no message."""
    try:
        if within_s is None:
            message = await ws.receive()
        else:
            async with asyncio.timeout(within_s):  # aiohttp's own starts anew at each ping
                message = await ws.receive()
    except TimeoutError:
        raise SessionOver(f"nothing came for {within_s:g} s") from None
    if message.type is WSMsgType.BINARY:
        data: bytes = message.data
        return data
    if message.type is WSMsgType.TEXT:
        raise SessionOver("a text message; messages are MessagePack in binary frames", WSCloseCode.UNSUPPORTED_DATA)
    if message.type is WSMsgType.ERROR:
        raise SessionOver(safe(str(ws.exception() or "broken frame"), limit=100), WSCloseCode.PROTOCOL_ERROR)
    return None


def frame(data: bytes) -> bytes:
    """One binary message as a server sends it (RFC 6455, 5.2): final, unmasked, uncompressed."""
    size = len(data)
    if size < 126:
        return bytes((0x82, size)) + data
    if size < 1 << 16:
        return b"\x82\x7e" + size.to_bytes(2, "big") + data
    return b"\x82\x7f" + size.to_bytes(8, "big") + data


async def send(ws: web.WebSocketResponse, data: bytes, within_s: float) -> None:
    """Raises SessionOver where the peer does not take it, or is gone."""
    try:
        async with asyncio.timeout(within_s):
            await ws.send_bytes(data)
    except TimeoutError:
        raise SessionOver(f"took nothing for {within_s:g} s", WSCloseCode.TRY_AGAIN_LATER) from None
    except ConnectionError as error:
        raise SessionOver("connection lost", WSCloseCode.ABNORMAL_CLOSURE) from error


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Runs the parts of a session until one of them ends; its exception, if it has one, is raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def close(ws: web.WebSocketResponse, transport: asyncio.Transport | None, over: SessionOver | None) -> None:
    """Says why, and lets go. A peer that takes nothing is not asked to take a farewell either."""
    if over is None:
        await ws.close()
    elif over.code in (WSCloseCode.ABNORMAL_CLOSURE, WSCloseCode.TRY_AGAIN_LATER):
        if transport is not None:
            transport.abort()
    else:
        await ws.close(code=over.code, message=safe(str(over), limit=100).encode()[:120])
