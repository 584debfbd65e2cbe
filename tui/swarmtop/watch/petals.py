"""Time one generation over the WebSocket API of Petals' chat backend (`/api/v2/generate`), token by token.

A session is opened, then one `generate` requests a token at a time; the server continues by itself until
`stop_sequence`, which no text contains, so the client ends it by closing. Each message states how many tokens it holds.
The clock runs from `generate`: opening the session, in which Petals finds its servers, is no wait for a token.
Protocol: chat.petals.dev 9e2faf0 README.md and websocket_api.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from swarm_protocol.text import safe
from swarmtop.errors import CommandError
from swarmtop.text.connection_failure import why_unreachable
from swarmtop.watch.client import CONNECT_WITHIN_S, Endpoint, Question, RequestFailed
from swarmtop.watch.completion_stream import Observation, observed
from swarmtop.watch.sse import StreamError

PATH = "/api/v2/generate"
NEVER = "\u0000\u0001\u0000"  # as a stop sequence: no tokenizer makes this
ROOM_TOKENS = 512  # of a session, in addition to the answer: room for a prompt
LARGEST_MESSAGE = 1 << 20


def is_petals(url: str) -> bool:
    return urlsplit(url).scheme in ("ws", "wss")


def chat_url(url: str) -> str:
    """Return the API address of `wss://host`. Raises CommandError for one that carries a key."""
    parts = urlsplit(url)
    if not parts.hostname or parts.username or parts.password or parts.query:
        raise CommandError(f"{safe(url.split('?')[0], 80)!r} is no address of a Petals chat backend; write wss://HOST")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix(PATH)}{PATH}"


class PetalsChat:
    """The same `async with` and `ask` as `client.Client`. `clock_ns` is steady."""

    def __init__(self, endpoint: Endpoint, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._endpoint = endpoint
        self._clock_ns = clock_ns

    async def __aenter__(self) -> PetalsChat:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Do nothing: each question has a connection of its own."""

    async def first_model(self) -> str:
        raise CommandError(f"{self._endpoint.shown} lists no models; name the one it serves with --served-model")

    async def ask(self, question: Question) -> tuple[Observation, int]:
        """Return (what was seen, steady time of the request). Raises RequestFailed."""
        where = self._endpoint.shown
        try:
            async with connect(
                self._endpoint.base, open_timeout=CONNECT_WITHIN_S, max_size=LARGEST_MESSAGE, close_timeout=1
            ) as connection:
                async with asyncio.timeout(self._endpoint.first_token_within_s):
                    await self._say(connection, self._opening(question))
                    await self._hear(connection)
                return await self._generate(connection, question)
        except TimeoutError:
            raise RequestFailed(f"no answer from {where} for {self._endpoint.first_token_within_s:g} s") from None
        except StreamError as error:
            raise RequestFailed(f"{where}: {error}") from error
        except (ConnectionClosed, InvalidHandshake, OSError) as error:
            raise RequestFailed(f"cannot reach {where} ({why_unreachable(error)})") from error

    async def _generate(self, connection: ClientConnection, question: Question) -> tuple[Observation, int]:
        asked_ns, moments, tokens, stopped = self._clock_ns(), list[int](), 0, False
        await self._say(
            connection,
            {
                "type": "generate",
                "inputs": question.prompt,
                "max_new_tokens": 1,
                "do_sample": 0,
                "stop_sequence": NEVER,
            },
        )
        patience_s = self._endpoint.first_token_within_s
        while tokens < question.max_tokens and not stopped:
            async with asyncio.timeout(patience_s):
                message = await self._hear(connection)
            moments.append(self._clock_ns())
            count = message.get("token_count", 1)
            tokens += count if isinstance(count, int) and 0 < count <= question.max_tokens else 1
            stopped = message.get("stop") is True
            patience_s = self._endpoint.token_within_s
        return observed(asked_ns, moments, tokens=tokens, finished=True), asked_ns

    def _opening(self, question: Question) -> dict[str, Any]:
        room = question.max_tokens + ROOM_TOKENS
        return {"type": "open_inference_session", "model": question.model, "max_length": room}

    async def _say(self, connection: ClientConnection, message: dict[str, Any]) -> None:
        await connection.send(json.dumps(message))

    async def _hear(self, connection: ClientConnection) -> dict[str, Any]:
        """Receive a message. Raises StreamError for a refusal, and for invalid messages."""
        try:
            message = json.loads(await connection.recv())
        except (ValueError, RecursionError) as error:
            raise StreamError("a message of this backend is not JSON") from error
        if not isinstance(message, dict):
            raise StreamError("a message of this backend is no object")
        if message.get("ok") is not True:
            last = (str(message.get("traceback", "")).strip().splitlines() or ["no reason given"])[-1]
            raise StreamError(f"the backend says: {safe(last, 200)}")
        return message
