"""Claims about notifications: a real HTTP endpoint, a real command; failures are reported and delay nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from swarmtop.alerts import sinks
from swarmtop.alerts.state import Change
from swarmtop.errors import CommandError

CHANGE = Change("firing", "rtt_p99_ms<100", "a>b", 412.0, 5, "rtt_p99_ms<100: a>b has 412")
OBJECT = sinks.as_object(CHANGE, "garage")


@asynccontextmanager
async def hook(*statuses: int) -> AsyncIterator[tuple[str, list[Any]]]:
    """Answers with `statuses` in turn, then with 204; what was posted."""
    posted: list[Any] = []
    waiting = list(statuses)

    async def take(request: web.Request) -> web.Response:
        posted.append(await request.json())
        return web.Response(status=waiting.pop(0) if waiting else 204)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}/hook", posted
    finally:
        await runner.cleanup()


async def test_a_webhook_gets_what_people_and_programs_read() -> None:
    reported: list[str] = []
    async with hook() as (url, posted), aiohttp.ClientSession() as http:
        sink = sinks.webhook(url, http, reported.append)
        sink.put(OBJECT)
        await sink.close()
    assert posted == [
        {
            "text": "! garage: rtt_p99_ms<100: a>b has 412", "content": "! garage: rtt_p99_ms<100: a>b has 412",
            "state": "firing", "rule": "rtt_p99_ms<100", "where": "a>b", "found": 412.0, "swarm": "garage",
        }
    ]  # fmt: skip
    assert reported == []


async def test_a_webhook_that_stumbles_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "PAUSES_S", (0.0, 0.0, 0.0))
    reported: list[str] = []
    async with hook(500, 503) as (url, posted), aiohttp.ClientSession() as http:
        sink = sinks.webhook(url, http, reported.append)
        sink.put(OBJECT)
        await sink.close()
    assert (len(posted), reported) == (3, [])


async def test_a_webhook_that_refuses_is_reported_once_and_without_its_address() -> None:
    reported: list[str] = []
    async with hook(404) as (url, posted), aiohttp.ClientSession() as http:
        sink = sinks.webhook(url, http, reported.append)
        sink.put(OBJECT)
        await sink.close()
    assert (len(posted), reported) == (1, ["the webhook was not notified (it answers 404)"])


async def test_a_command_gets_the_change_and_no_shell(tmp_path: Path) -> None:
    out, reported = tmp_path / "out.json", []
    script = tmp_path / "call.py"
    script.write_text(
        "import json, os, sys\n"
        "change = json.load(sys.stdin)\n"
        "json.dump([sys.argv[2:], change['where'], os.environ['SWARMTOP_ALERT_STATE']], open(sys.argv[1], 'w'))\n"
    )
    sink = sinks.command(f"{sys.executable} {script} {out} '$HOME; x'", reported.append)
    sink.put(OBJECT)
    await sink.close()
    assert json.loads(out.read_text()) == [["$HOME; x"], "a>b", "firing"]
    assert reported == []


async def test_a_command_that_fails_is_reported(tmp_path: Path) -> None:
    reported: list[str] = []
    for text in (f"{sys.executable} -c 'raise SystemExit(3)'", str(tmp_path / "nothing")):
        sink = sinks.command(text, reported.append)
        sink.put(OBJECT)
        await sink.close()
    assert reported[0].endswith("ended with 3")
    assert reported[1].startswith("cannot run ")


def test_a_command_line_that_is_none_is_one_line() -> None:
    with pytest.raises(CommandError, match=r"--run takes a command \(No closing quotation\)"):
        sinks.command("echo 'x", print)


async def test_a_sink_that_hangs_drops_the_oldest_and_says_so() -> None:
    reported: list[str] = []
    hanging = asyncio.Event()

    async def never(change: dict[str, object]) -> None:
        hanging.set()
        await asyncio.Event().wait()

    sink = sinks.Sink(never, reported.append)
    sink.put(OBJECT)
    await hanging.wait()
    for _ in range(sinks.QUEUE + 1):
        sink.put(OBJECT)
    assert reported == [f"{sinks.QUEUE} alerts wait to be delivered; the oldest was dropped"]
    sink._task.cancel()
