"""Watch an engine through its /metrics: read its load now and then, without sending requests of our own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S
from swarmtop.errors import CommandError
from swarmtop.text.connection_failure import why_unreachable
from swarmtop.watch.client import CONNECT_WITHIN_S, Endpoint, Question, RequestFailed
from swarmtop.watch.completion_stream import Observation
from swarmtop.watch.metrics import MetricsError, Totals, between, totals

PATH: Final = "/metrics"
LARGEST_PAGE: Final = 8 << 20  # of an engine with many histograms, some hundred kilobytes
WITHIN_S: Final = 15.0


class Idle(Exception):
    """No answer came since the last reading."""


def is_metrics(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https") and urlsplit(url).path.rstrip("/").endswith(PATH)


def metrics_url(url: str) -> str:
    """Raises CommandError for an address that holds a key."""
    parts = urlsplit(url)
    if not parts.hostname or parts.username or parts.password or parts.query:
        raise CommandError(f"{safe(url.split('?')[0], 80)!r} is no address of metrics; write http://HOST:PORT/metrics")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


class MetricsClient:
    """The same `async with` and `ask` as `client.Client`; entering it takes the first reading. `clock_ns` is steady."""

    def __init__(self, endpoint: Endpoint, model: str, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._endpoint, self._model, self._clock_ns = endpoint, model, clock_ns
        self._http: aiohttp.ClientSession | None = None
        self._last: Totals | None = None
        self._read_ns = 0  # steady

    async def __aenter__(self) -> MetricsClient:
        headers = {"Authorization": f"Bearer {self._endpoint.key}"} if self._endpoint.key else {}
        timeout = aiohttp.ClientTimeout(total=WITHIN_S, sock_connect=CONNECT_WITHIN_S)
        self._http = aiohttp.ClientSession(headers=headers, timeout=timeout, trust_env=True)
        try:
            self._read_ns = self._clock_ns()
            self._last = await self._read()
        except RequestFailed as failure:
            await self._http.close()
            raise CommandError(str(failure), 3) from failure
        except BaseException:
            await self._http.close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._http is not None:
            await self._http.close()

    async def first_model(self) -> str:
        assert self._last is not None, "used outside of async with"
        return self._last.model or self._last.engine

    async def ask(self, question: Question) -> tuple[Observation, int]:
        """(the answers since the last reading, steady time of this one). Raises Idle, RequestFailed, CommandError."""
        asked_ns = self._clock_ns()
        now = await self._read()
        before, self._last = self._last, now
        seconds, self._read_ns = (asked_ns - self._read_ns) / NS_PER_S, asked_ns
        found = between(before, now, seconds) if before is not None else None
        if found is None:
            raise Idle
        return found, asked_ns

    async def _read(self) -> Totals:
        assert self._http is not None, "used outside of async with"
        where = self._endpoint.shown
        try:
            async with self._http.get(self._endpoint.base, allow_redirects=False) as reply:
                page = b""
                async for piece in reply.content.iter_any():
                    page += piece
                    if len(page) > LARGEST_PAGE:
                        raise CommandError(f"{where} has more than {LARGEST_PAGE >> 20} MiB: no engine's metrics")
                if reply.status in (404, 501):
                    raise CommandError(f"{where} has no metrics ({reply.status}); start llama-server with --metrics")
                if reply.status != 200:
                    raise RequestFailed(f"{where} answers {reply.status}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RequestFailed(f"cannot reach {where} ({why_unreachable(error)})") from error
        try:
            return totals(page.decode("utf-8", "replace"), self._model)
        except MetricsError as error:
            raise CommandError(f"{where}: {safe(str(error), 300)}") from error
