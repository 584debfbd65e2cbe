"""Serve the dashboard to a browser on loopback, with a token: one page, one WebSocket and one process for each tab.

textual-serve provides the terminal in JavaScript and the packets to and from a Textual app. Added here: a page without
external content, the token, and the checks that keep other pages in the same browser away. Any page may send a browser
to 127.0.0.1, so besides the token a request must name this server as its Host (against DNS rebinding), and a WebSocket
as its Origin. There is no cookie: cookies are sent to every server on this machine, whatever its port.
"""

from __future__ import annotations

import hmac
import html
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from textual_serve.server import Server

HOST: Final = "127.0.0.1"
MAX_TABS: Final = 8  # each is a process of its own
# The page may load from and connect to this server only; xterm.js styles its cells by itself.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src ws://{address}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
PAGE: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<link rel="stylesheet" href="/static/css/xterm.css">
<style>
@font-face {{ font-family: "Roboto Mono"; src: url("/static/fonts/RobotoMono-VariableFont_wght.ttf"); }}
html, body {{ margin: 0; height: 100%; background: #0f1318; color: #d5dbe3; font: 16px "Roboto Mono", monospace; }}
.textual-terminal {{ width: 100vw; height: 100vh; }}
html, body {{ overflow: hidden; overscroll-behavior: none; }}
.closed {{ display: none; position: fixed; inset: 0; z-index: 9; place-content: center; background: #0f1318; }}
body.-closed .closed {{ display: grid; }}
</style>
<meta name="viewport" content="width=device-width, initial-scale=1">
<script src="/page.js"></script>
<script src="/static/js/textual.js"></script></head>
<body>
<div id="terminal" class="textual-terminal" data-session-websocket-url="{websocket}" data-font-size="{size}"
 data-sized="{sized}"></div>
<div class="closed">This dashboard has ended; reload the page for a new one.</div>
</body></html>
"""
# Keys reach the dashboard from the first press, and again when the tab is come back to; a phone has letters so large
# that some fifty of them stand in a line, for which the screens have a layout of their own.
SCRIPT: Final = """"use strict";
const phone = 700, letters = 50, ratio = 0.6;
document.addEventListener("DOMContentLoaded", () => {
  const terminal = document.getElementById("terminal");
  if (!terminal.dataset.sized && window.innerWidth < phone)
    terminal.dataset.fontSize = Math.max(9, Math.min(16, Math.floor(window.innerWidth / (letters * ratio))));
  const focus = () => {
    const keys = terminal.querySelector(".xterm-helper-textarea");
    if (keys) keys.focus();
    return keys;
  };
  const seen = new MutationObserver(() => { if (focus()) seen.disconnect(); });
  if (!focus()) seen.observe(terminal, {childList: true, subtree: true});
  window.addEventListener("focus", focus);
  document.addEventListener("keydown", (event) => {
    if (document.activeElement === document.body && !event.metaKey && !event.altKey) focus();
  }, true);
});
"""
FONT_SIZES: Final = range(6, 49)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BrowserServer(Server):
    """The server; `address` and `page_url` are known once `listen` has returned."""

    def __init__(self, command: str, title: str, token: str = "") -> None:
        super().__init__(command, host=HOST, title=title)
        self.token = token or secrets.token_urlsafe(16)
        self.address = ""
        self._tabs = 0

    @property
    def page_url(self) -> str:
        return f"http://{self.address}/?token={self.token}"

    async def listen(self, port: int) -> web.AppRunner:
        """Serve from now on, until the runner is cleaned up. Raises OSError for an unavailable port."""
        app = web.Application(middlewares=[self._guard])
        app.add_routes([
            web.get("/", self._page),
            web.get("/page.js", self._script),
            web.get("/ws/{token}", self._tab),
            web.static("/static", self.statics_path),
        ])  # fmt: skip
        runner = web.AppRunner(app, access_log=None, handle_signals=False)  # the token stands in every first request
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, port).start()
        except OSError:
            await runner.cleanup()
            raise
        self.address = f"{HOST}:{runner.addresses[0][1]}"
        return runner

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.host != self.address:
            raise web.HTTPForbidden(text=f"this is {self.address}\n")
        if request.headers.get("Origin", f"http://{self.address}") != f"http://{self.address}":
            raise web.HTTPForbidden(text="another page may not talk to this dashboard\n")
        response = await handler(request)
        if not response.prepared:
            response.headers["Content-Security-Policy"] = POLICY.format(address=self.address)
            response.headers["Referrer-Policy"] = "no-referrer"
            response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def _must_be(self, token: str) -> None:
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            raise web.HTTPForbidden(text="open the address that swarmtop serve printed: the token stands in it\n")

    async def _page(self, request: web.Request) -> web.Response:
        """Return our own page: textual-serve's loads a font from Google."""
        self._must_be(request.query.get("token", ""))
        size = request.query.get("fontsize", "")
        text = PAGE.format(
            title=html.escape(f"swarmtop: {self.title}"),
            websocket=html.escape(f"ws://{self.address}/ws/{self.token}"),
            sized="yes" if size else "",
            size=size if size.isdecimal() and int(size) in FONT_SIZES else "16",
        )
        return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})

    async def _script(self, _request: web.Request) -> web.Response:
        """Nothing in it is secret."""
        return web.Response(text=SCRIPT, content_type="text/javascript", headers={"Cache-Control": "no-store"})

    async def _tab(self, request: web.Request) -> web.WebSocketResponse:
        self._must_be(request.match_info["token"])
        if "Origin" not in request.headers:  # every browser sends it
            raise web.HTTPForbidden(text="only the page of this dashboard may open its WebSocket\n")
        if self._tabs >= MAX_TABS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_TABS} tabs are open already; close one\n")
        self._tabs += 1
        try:
            return await self.handle_websocket(request)
        finally:
            self._tabs -= 1
