"""A small OpenAI-compatible endpoint that streams at a known speed, for tests of `swarmtop watch`.

    python tests/tui/watch/openai_server.py --port 8000 --ttft-ms 300 --tpot-ms 80

It has no model: its words are numbered. Times are kept against a steady clock, so that errors do not add up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(slots=True)
class Manner:
    """How it behaves; tests change it between requests."""

    ttft_ms: float = 100.0
    tpot_ms: float = 20.0
    model: str = "numbered-words"
    key: str = ""  # asked for if there is one
    usage: bool = True  # False: refuses stream_options, as older engines do
    per_event: int = 1  # tokens packed into one event
    buffered: bool = False  # all events are held back until the last is there, as by a proxy
    status: int = 200  # anything else is answered at once
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # the connection breaks after so many tokens
    stream_error: str = ""  # streamed instead of the second token
    prompt_ms: float | None = None  # told at the end as llama-server does; None: no `timings`
    cached: int = 0  # tokens of the prompt
    requests: list[dict[str, Any]] = field(default_factory=list)  # what was asked, for tests to look at


MANNER: web.AppKey[Manner] = web.AppKey("manner", Manner)


def application(manner: Manner) -> web.Application:
    app = web.Application()
    app[MANNER] = manner
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/v1/chat/completions", _complete)
    app.router.add_post("/v1/completions", _complete)
    return app


async def _models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": request.app[MANNER].model, "object": "model"}]})


async def _complete(request: web.Request) -> web.StreamResponse:
    manner = request.app[MANNER]
    asked = await request.json()
    manner.requests.append(asked)
    if manner.key and request.headers.get("Authorization") != f"Bearer {manner.key}":
        return web.json_response({"error": {"message": "no such key"}}, status=401)
    if manner.status != 200:
        return web.json_response({"error": {"message": "not now"}}, status=manner.status, headers=manner.headers)
    if "stream_options" in asked and not manner.usage:
        return web.json_response({"error": {"message": "unknown field stream_options"}}, status=400)
    reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await reply.prepare(request)
    if not await _stream(reply, manner, asked, chat=request.path.endswith("/chat/completions")):
        assert request.transport is not None
        request.transport.abort()
    return reply


async def _stream(reply: web.StreamResponse, manner: Manner, asked: dict[str, Any], *, chat: bool) -> bool:
    """False: the connection is to break here."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    if chat:
        await _send(reply, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    tokens = int(asked.get("max_tokens", 16))
    if manner.buffered:
        await asyncio.sleep((manner.ttft_ms + (tokens - 1) * manner.tpot_ms) / 1e3)
        events = [{"choices": [{"index": 0, "delta": {"content": f" {number}"}}]} for number in range(tokens)]
        await reply.write(b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events))
        await reply.write(b"data: [DONE]\n\n")
        return True
    for first in range(0, tokens, manner.per_event):
        last = min(first + manner.per_event, tokens)
        # an event goes out when its last token is there
        await asyncio.sleep(max(0.0, began + (manner.ttft_ms + (last - 1) * manner.tpot_ms) / 1e3 - loop.time()))
        if manner.cut_after is not None and first >= manner.cut_after:
            return False
        if manner.stream_error and first > 0:
            await _send(reply, {"error": {"message": manner.stream_error}})
            return True
        text = "".join(f" {number}" for number in range(first, last))
        await _send(reply, {"choices": [{"index": 0, "delta": {"content": text}} if chat else {"text": text}]})
    await _send(reply, {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    if "stream_options" in asked:
        usage = {"prompt_tokens": 7, "completion_tokens": tokens}
        timings = (
            {} if manner.prompt_ms is None else {"timings": {"prompt_ms": manner.prompt_ms, "cache_n": manner.cached}}
        )
        await _send(reply, {"choices": [], "usage": usage, **timings})
    await reply.write(b"data: [DONE]\n\n")
    return True


async def _send(reply: web.StreamResponse, chunk: dict[str, Any]) -> None:
    await reply.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--ttft-ms", type=float, default=100.0)
    parser.add_argument("--tpot-ms", type=float, default=20.0)
    args = parser.parse_args()
    web.run_app(application(Manner(args.ttft_ms, args.tpot_ms)), host="127.0.0.1", port=args.port)


if __name__ == "__main__":
    main()
