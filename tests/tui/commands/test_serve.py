"""`swarmtop serve`: the token and the checks around it, and the dashboard in a real browser, headless, with a picture.

SWARMTOP_SERVE_PICTURE=FILE.png keeps the picture.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("textual_serve", reason="pip install 'swarmtop[serve]' brings what this tests")

import aiohttp

from swarmtop.cli import main
from swarmtop.commands.serve import dashboard_words
from swarmtop.local.browser import MAX_TABS, BrowserServer

GARAGE = Path(__file__).parents[3] / "examples" / "garage.toml"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
    "--window-size=1280,760",
)  # fmt: skip
WAIT_S = 40.0


@contextlib.asynccontextmanager
async def serving(command: str = "cat") -> AsyncIterator[BrowserServer]:
    server = BrowserServer(command, "a <test>")
    runner = await server.listen(0)
    try:
        yield server
    finally:
        await runner.cleanup()


async def get(url: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_page_wants_the_token_this_host_and_no_other_page() -> None:
    async with serving() as server:
        assert server.address.startswith("127.0.0.1:")
        base = f"http://{server.address}/"
        status, page = await get(server.page_url)
        assert (status, "a &lt;test&gt;" in page, "http://" in page) == (200, True, False)  # nothing from elsewhere
        for url, headers in (
            (base, {}),
            (base + "?token=guess", {}),
            (server.page_url, {"Host": "evil.example"}),
            (server.page_url, {"Origin": "http://evil.example"}),
            (base + "ws/guess", {"Origin": f"http://{server.address}"}),
            (base + f"ws/{server.token}", {}),
        ):
            status, said = await get(url, **headers)
            assert status == 403, url
            assert server.token not in said


async def test_page_gives_its_keys_to_the_terminal_and_sizes_letters_for_a_phone() -> None:
    async with serving() as server:
        _, page = await get(server.page_url)
        status, script = await get(f"http://{server.address}/page.js")
        assert status == 200
        assert page.index("/page.js") < page.index("/static/js/textual.js")  # letters are sized before they are drawn
        assert "width=device-width" in page
        assert ".focus()" in script
        assert 'data-sized=""' in page
        assert 'data-sized="yes"' in (await get(server.page_url + "&fontsize=20"))[1]


async def test_no_more_tabs_than_agreed() -> None:
    async with serving() as server:
        server._tabs = MAX_TABS
        origin = {"Origin": f"http://{server.address}"}
        assert (await get(f"http://{server.address}/ws/{server.token}", **origin))[0] == 503


def test_tabs_get_what_serve_was_given_but_no_token_and_no_port() -> None:
    given = ["--port", "8080", "--connect", "10.0.0.5:9470", "--token", "s3cret", "--model", "tiny"]
    assert dashboard_words(given) == ["--connect", "10.0.0.5:9470", "--model", "tiny"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--swarm", "nowhere.toml"], "cannot read nowhere.toml"),
        (["--swarm", str(GARAGE), "--model", "nosuch"], "nosuch"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_served(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "0", *words]) == 2
    assert said in capsys.readouterr().err


def test_port_that_is_taken_is_one_line_that_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port), "--swarm", str(GARAGE)]) == 2
    assert capsys.readouterr().err == (
        f"swarmtop: cannot listen on 127.0.0.1:{port} (Address already in use); name a free port with --port\n"
    )


# ---------------------------------------------------------------- in a browser


class Tab:
    """A page of a headless Chromium, driven through its DevTools socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.received = b""  # by the page's own WebSocket
        self.elsewhere: list[str] = []  # requests of the page that are not to this machine

    async def do(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while (message := await self._next()).get("id") != number:
            pass
        return dict(message["result"])

    async def until(self, text: str) -> None:
        while text.encode() not in self.received:
            await self._next()

    async def _next(self) -> dict[str, Any]:
        message = json.loads(await self._socket.receive_str(timeout=WAIT_S))
        params = message.get("params", {})
        if message.get("method") == "Network.webSocketFrameReceived":
            frame = params["response"]
            data = frame["payloadData"]
            self.received += base64.b64decode(data) if frame["opcode"] == 2 else data.encode()
        elif message.get("method") == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
                self.elsewhere.append(url)
        return dict(message)


@contextlib.asynccontextmanager
async def browser(folder: Path, url: str) -> AsyncIterator[Tab]:
    assert CHROMIUM is not None
    home = folder / "chromium"
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *FLAGS, f"--user-data-dir={home}", "about:blank",
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(WAIT_S), aiohttp.ClientSession() as session:
            assert process.stderr is not None
            while b"DevTools listening on ws://" not in (row := await process.stderr.readline()):
                assert row, "Chromium ended"
            place = row.decode().split("ws://")[1].split("/")[0]
            async with session.get(f"http://{place}/json/list") as answer:
                page = next(p for p in await answer.json() if p["type"] == "page")
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=1 << 26) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Network", "Runtime"):
                    await tab.do(f"{domain}.enable")
                await tab.do("Page.navigate", url=url)
                yield tab
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def colours(png: bytes) -> int:
    """How many different colours a picture has, at most 1000 looked for: an empty page has one or two."""
    at, data, width, depth = 8, b"", 0, 3
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"IHDR":
            width = struct.unpack(">I", png[at + 8 : at + 12])[0]
            depth = {2: 3, 6: 4}[png[at + 17]]
        elif kind == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += 12 + size
    rows = zlib.decompress(data)
    stride = 1 + width * depth
    # filtered rows: differences instead of colours, which is as good a sign that something is drawn
    return len({rows[i : i + depth] for i in range(1, len(rows) - depth, depth) if i % stride})


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here to open the page in")
async def test_dashboard_in_a_browser_shows_the_ranking_and_obeys_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARMTOP_HOME", str(tmp_path / "state"))
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "swarmtop", "serve", "--port", "0", "--swarm", str(GARAGE), "--model", "llama-2-13b",
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = (await asyncio.wait_for(server.stdout.readline(), WAIT_S)).decode().strip()
        async with browser(tmp_path, url) as tab:
            await tab.until("barn-3060")
            await tab.until("tok/s")
            await tab.do("Runtime.evaluate", expression="document.querySelector('.xterm-helper-textarea').focus()")
            await tab.do("Input.dispatchKeyEvent", type="char", text="4")
            await tab.until("WHAT-IF")
            await tab.do("Input.dispatchKeyEvent", type="char", text="1")
            shown = await tab.do("Page.captureScreenshot", format="png")
            assert tab.elsewhere == []
        picture = base64.b64decode(shown["data"])
        if keep := os.environ.get("SWARMTOP_SERVE_PICTURE"):
            await asyncio.to_thread(Path(keep).write_bytes, picture)
        assert colours(picture) > 50
    finally:
        server.terminate()
        assert await asyncio.wait_for(server.wait(), WAIT_S) == 0
