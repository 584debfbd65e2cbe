"""Time one streamed request to an OpenAI-compatible endpoint as its answer arrives.

The key comes from the environment and goes into one header; it is in no message, log or sample. Redirects are not
followed: a key is for the host that was named.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from swarm_protocol.text import safe
from swarmtop.errors import CommandError
from swarmtop.text.connection_failure import why_unreachable
from swarmtop.watch.completion_stream import Completion, Observation
from swarmtop.watch.sse import EventStream, StreamError

CONNECT_WITHIN_S: Final = 15.0
MODELS_WITHIN_S: Final = 15.0
LARGEST_REPLY: Final = 64 << 10  # of an error, or of the list of models
LONGEST_RETRY_S: Final = 3600.0


class RequestFailed(Exception):
    """This request gave nothing, a later one may; one line. `retry_after_s`: the server's wish."""

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Endpoint:
    base: str  # ends in /v1
    key: str = ""
    key_name: str = ""  # of the variable that it came from
    first_token_within_s: float = 120.0
    token_within_s: float = 60.0  # between two pieces of an answer

    @property
    def shown(self) -> str:
        """Return host and path, without what may be secret."""
        parts = urlsplit(self.base)
        return safe(f"{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path.removesuffix('/v1')}", 100)


@dataclass(frozen=True, slots=True)
class Question:
    model: str
    prompt: str
    max_tokens: int = 64
    chat: bool = True  # False: /completions, for engines without a chat template

    def body(self, *, usage: bool) -> dict[str, Any]:
        asked: dict[str, Any] = {"model": self.model, "max_tokens": self.max_tokens, "temperature": 0, "stream": True}
        if usage:
            asked["stream_options"] = {"include_usage": True}
        if self.chat:
            asked["messages"] = [{"role": "user", "content": self.prompt}]
        else:
            asked["prompt"] = self.prompt
        return asked


def endpoint_base(url: str) -> str:
    """Return the base that ends in /v1, of `http://host:8080` with or without `/v1` or a whole path of a completion.

    Raises CommandError for what is no http(s) URL, and for one that carries a password or a key.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"{safe(url, 80)!r} is no address of an engine; write http://HOST:PORT")
    if parts.username or parts.password or parts.query:
        raise CommandError(
            "an address may hold no key (it would stand in process lists); name its variable with --key-env"
        )
    path = parts.path.rstrip("/")
    for tail in ("/chat/completions", "/completions"):
        path = path.removesuffix(tail)
    if not path.endswith("/v1"):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


class Client:
    """The client; use it within `async with`. `clock_ns` is steady."""

    def __init__(self, endpoint: Endpoint, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._endpoint = endpoint
        self._clock_ns = clock_ns
        self._http: aiohttp.ClientSession | None = None
        self._usage = True  # until an engine refuses the option

    async def __aenter__(self) -> Client:
        headers = {"Authorization": f"Bearer {self._endpoint.key}"} if self._endpoint.key else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN_S)
        self._http = aiohttp.ClientSession(headers=headers, timeout=timeout, trust_env=True)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._http is not None:
            await self._http.close()

    async def first_model(self) -> str:
        """Return the first model of GET /models. Raises RequestFailed and CommandError."""
        try:
            async with (
                asyncio.timeout(MODELS_WITHIN_S),
                self._session.get(f"{self._endpoint.base}/models", allow_redirects=False) as reply,
            ):
                await self._require_ok(reply)
                listed = await reply.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(error) from error
        try:
            name = listed["data"][0]["id"]
        except (KeyError, IndexError, TypeError):
            name = None
        if not isinstance(name, str) or not name:
            raise CommandError(f"{self._endpoint.shown} lists no model; name the one it serves with --served-model")
        return name

    async def ask(self, question: Question) -> tuple[Observation, int]:
        """Return (what was seen, steady time of the request). Raises RequestFailed, and CommandError for what no later
        request would fix."""
        path = "chat/completions" if question.chat else "completions"
        asked_ns = self._clock_ns()
        try:
            async with asyncio.timeout(self._endpoint.first_token_within_s) as patience:
                body = question.body(usage=self._usage)
                async with self._session.post(
                    f"{self._endpoint.base}/{path}", json=body, allow_redirects=False
                ) as reply:
                    if self._usage and reply.status in (400, 422):
                        # older engines refuse stream_options: count events instead
                        self._usage = False
                        return await self.ask(question)
                    await self._require_ok(reply)
                    return await self._follow(reply, Completion(asked_ns, question.max_tokens), patience), asked_ns
        except TimeoutError:
            raise RequestFailed(
                f"no token from {self._endpoint.shown} for {self._endpoint.first_token_within_s:g} s; it may be loading"
            ) from None
        except StreamError as error:
            raise RequestFailed(f"{self._endpoint.shown}: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error

    async def _follow(
        self, reply: aiohttp.ClientResponse, answer: Completion, patience: asyncio.Timeout
    ) -> Observation:
        loop = asyncio.get_running_loop()
        events = EventStream()
        async for piece in reply.content.iter_any():
            at_ns = self._clock_ns()
            for data in events.feed(piece):
                answer.event(data, at_ns)
                patience.reschedule(loop.time() + self._endpoint.token_within_s)
            if answer.done:
                break
        return answer.observation()

    async def _require_ok(self, reply: aiohttp.ClientResponse) -> None:
        if reply.status == 200:
            return
        text = safe((await reply.content.read(LARGEST_REPLY)).decode("utf-8", "replace"), 160)
        where = self._endpoint.shown
        if reply.status in (401, 403):
            have = "was sent" if self._endpoint.key else "is empty"
            variable = f"${self._endpoint.key_name}"
            raise CommandError(f"{where} refuses the key ({reply.status}; {variable} {have}); set the right one")
        if reply.status in (300, 301, 302, 303, 307, 308):
            there = safe(reply.headers.get("Location", "elsewhere"), 80)
            raise CommandError(f"{where} points to {there}; give that address (redirects are not followed)")
        if reply.status == 404:
            raise CommandError(f"{where} has no such path or model ({text}); correct the URL or --served-model")
        if reply.status in (400, 422):
            raise CommandError(f"{where} refuses the request ({reply.status}: {text})")
        raise RequestFailed(f"{where} answers {reply.status} ({text})", _retry_after_s(reply))

    def _unreachable(self, error: Exception) -> RequestFailed:
        return RequestFailed(f"cannot reach {self._endpoint.shown} ({why_unreachable(error)})")

    @property
    def _session(self) -> aiohttp.ClientSession:
        assert self._http is not None, "used outside of async with"
        return self._http


def _retry_after_s(reply: aiohttp.ClientResponse) -> float:
    """Parse RFC 9110 §10.2.3 in seconds; the form of a date is rare and waits as long as any failure."""
    text = reply.headers.get("Retry-After", "")
    return min(float(text), LONGEST_RETRY_S) if text.isdigit() else 0.0
