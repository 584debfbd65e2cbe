"""Send alert changes to a JSON webhook, or to a command of the user. Neither may delay the watch.

Each has one task that takes changes in order from a short queue; when it is full the oldest is dropped, which is
reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp

from swarm_protocol.text import safe
from swarmtop.alerts.state import Change
from swarmtop.errors import CommandError

QUEUE: Final = 100
PAUSES_S: Final = (0.0, 2.0, 8.0)  # before each try of a webhook
WITHIN_S: Final = 10.0  # an answer of a webhook
COMMAND_WITHIN_S: Final = 60.0


def as_object(change: Change, swarm: str) -> dict[str, object]:
    """Return the change. `text` and `content` are what Slack, Mattermost and Discord show; the rest is for programs."""
    line = f"{'!' if change.state == 'firing' else '+'} {swarm}: {change.line}"
    return {
        "text": line,
        "content": line,
        "state": change.state,
        "rule": change.rule,
        "where": change.where,
        "found": change.found,
        "swarm": swarm,
    }


class Sink:
    """Sends changes to `deliver`, one after the other. `on_failure` gets a line for each that fails."""

    def __init__(
        self, deliver: Callable[[dict[str, object]], Awaitable[None]], on_failure: Callable[[str], None]
    ) -> None:
        self._deliver = deliver
        self._on_failure = on_failure
        self._waiting: asyncio.Queue[dict[str, object]] = asyncio.Queue(QUEUE)
        self._task = asyncio.create_task(self._run())

    def put(self, change: dict[str, object]) -> None:
        if self._waiting.full():
            self._waiting.get_nowait()
            self._waiting.task_done()
            self._on_failure(f"{QUEUE} alerts wait to be delivered; the oldest was dropped")
        self._waiting.put_nowait(change)

    async def close(self) -> None:
        """Deliver what waits, for about as long as one delivery may take."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * WITHIN_S):
                await self._waiting.join()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            change = await self._waiting.get()
            await self._deliver(change)
            self._waiting.task_done()


def webhook(url: str, http: aiohttp.ClientSession, on_failure: Callable[[str], None]) -> Sink:
    """Post JSON to `url`, which may itself be a secret and is never printed."""

    async def deliver(change: dict[str, object]) -> None:
        problem = ""
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                async with asyncio.timeout(WITHIN_S), http.post(url, json=change, allow_redirects=False) as reply:
                    if reply.status < 300:
                        return
                    problem = f"it answers {reply.status}"
                    if reply.status < 500 and reply.status != 429:
                        break
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                problem = type(error).__name__
        on_failure(f"the webhook was not notified ({problem})")

    return Sink(deliver, on_failure)


def command(text: str, on_failure: Callable[[str], None]) -> Sink:
    """Run `text` without a shell for each change: JSON on its input, SWARMTOP_ALERT_* in its environment.

    Raises CommandError if it is no command line.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise CommandError(f"--run takes a command ({error}); quote it as the shell would") from error
    if not words:
        raise CommandError("--run takes a command; it is empty")

    async def deliver(change: dict[str, object]) -> None:
        environment = {f"SWARMTOP_ALERT_{key.upper()}": safe(str(value), 500) for key, value in change.items()}
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.PIPE, env={**os.environ, **environment}
            )
        except OSError as error:
            on_failure(f"cannot run {safe(words[0], 80)} ({error.strerror}); correct --run")
            return
        try:
            async with asyncio.timeout(COMMAND_WITHIN_S):
                await process.communicate(json.dumps(change).encode() + b"\n")
        except TimeoutError:
            process.kill()
            await process.wait()
            on_failure(f"{safe(words[0], 80)} took more than {COMMAND_WITHIN_S:.0f} s and was ended")
            return
        if process.returncode:
            on_failure(f"{safe(words[0], 80)} ended with {process.returncode}")

    return Sink(deliver, on_failure)
