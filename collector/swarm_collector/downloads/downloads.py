"""Answer GET for `/wheel`, `/join.sh` and `/SHA256SUMS`.

Nothing here is secret, so anybody may download it; the rate is limited, because a response is a thousand times as long
as its request. The wheel is built at the first request, and stays the same until this collector ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from swarm_collector.downloads.wheel import Wheel, WheelError, wheel_of_this
from swarm_protocol.rate_limit import TokenBucket

SCRIPT: Final = "join.sh"
SUMS: Final = "SHA256SUMS"
AT_ONCE: Final = 64.0  # when a swarm starts, everybody pastes the line in the same minute
PER_S: Final = 1.0
TRANSFER_S: Final = 120.0  # the wheel over 100 kbit/s
CHUNK_BYTES: Final = 64 << 10  # what a slow reader keeps in memory, instead of the whole wheel
NO_WHEEL: Final = "none"

_log = logging.getLogger("swarm_collector")


class Downloads:
    """`given`: a wheel's path, NO_WHEEL to serve nothing, or None for the wheel of this installation.

    `may_last(transport, seconds)` extends the time limit of a connection that is about to carry a large response.
    """

    def __init__(
        self,
        given: str | None,
        steady_ns: Callable[[], int],
        may_last: Callable[[asyncio.BaseTransport, float], None],
    ) -> None:
        self._given = given
        self._steady_ns = steady_ns
        self._may_last = may_last
        self._rate = TokenBucket(PER_S, AT_ONCE)
        self._making: asyncio.Task[Wheel] | None = None
        self._script = (Path(__file__).parent / SCRIPT).read_bytes()

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get(f"/{SUMS}", self._sums)
        router.add_get(f"/{SCRIPT}", self._join_script)
        router.add_get("/wheel", self._where)
        router.add_get("/wheel/{name}", self._wheel)

    async def _sums(self, _: web.Request) -> web.Response:
        wheel = await self._made()
        script = hashlib.sha256(self._script).hexdigest()
        return web.Response(text=f"{script}  {SCRIPT}\n{wheel.sha256}  {wheel.name}\n")

    async def _join_script(self, _: web.Request) -> web.Response:
        if self._given == NO_WHEEL:
            raise web.HTTPNotFound(text="this collector serves no wheel (--wheel none)\n")
        return web.Response(body=self._script, content_type="text/x-shellscript")

    async def _where(self, _: web.Request) -> web.Response:
        """Installers read the version from the name, so the name is part of the address."""
        raise web.HTTPFound(f"/wheel/{(await self._made()).name}")

    async def _wheel(self, request: web.Request) -> web.StreamResponse:
        wheel = await self._made()
        if request.match_info["name"] != wheel.name:
            raise web.HTTPNotFound(text=f"this collector serves {wheel.name}\n")
        if not self._rate.take(self._steady_ns()):
            raise web.HTTPServiceUnavailable(
                text="too many requests at once; try again later\n", headers={"Retry-After": "5"}
            )
        if request.transport is not None:
            self._may_last(request.transport, TRANSFER_S)
        response = web.StreamResponse(headers={"Content-Type": "application/zip"})
        response.content_length = len(wheel.data)
        await response.prepare(request)
        for begin in range(0, len(wheel.data), CHUNK_BYTES):
            await response.write(wheel.data[begin : begin + CHUNK_BYTES])
        return response

    async def _made(self) -> Wheel:
        """Return the one wheel for all requests. Raises HTTPNotFound if there is none to serve."""
        if self._given == NO_WHEEL:
            raise web.HTTPNotFound(text="this collector serves no wheel (--wheel none)\n")
        if self._making is None or (self._making.done() and self._making.exception() is not None):
            self._making = asyncio.create_task(asyncio.to_thread(_made_of, self._given))
        try:
            return await asyncio.shield(self._making)
        except WheelError as error:
            _log.warning("no wheel can be served: %s", error)
            raise web.HTTPNotFound(text=f"this collector has no wheel to serve: {error}\n") from error


def _made_of(given: str | None) -> Wheel:
    if given is None:
        return wheel_of_this()
    return wheel_of_file(Path(given))


def wheel_of_file(path: Path) -> Wheel:
    """Read a wheel. Raises WheelError if it is not one of swarmtop."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WheelError(f"cannot read {path} ({error.strerror}); give --wheel another file, or none") from error
    if not zipfile.is_zipfile(path) or not path.name.startswith("swarmtop-") or path.suffix != ".whl":
        raise WheelError(f"{path} is not a wheel of swarmtop; give --wheel another file, or none")
    return Wheel(path.name, data)
