"""Serve the gloo pipeline over HTTP: rank 0 streams its answers as OpenAI's API does.

`python -m bench.engine_runs.engines.gloo_server PORT` with a JSON Rank on standard input. Rank 0 answers `/v1/models`,
`/v1/completions` and `/v1/chat/completions`, one request at a time, and prints `ready`; it tells the other ranks how
long a prompt and an answer are. A word is a token, and so is each number of an answer: the model's weights are random.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import torch
import torch.distributed as dist

from bench.engine_runs.engines.gloo_worker import WAIT, Pipeline, Rank

IDLE = timedelta(hours=1)  # that ranks wait for a question
MODEL = "random-weights"


class Ring:
    """The ranks' common part: a question is a prompt of so many tokens and an answer of so many."""

    def __init__(self, config: Rank) -> None:
        self._config, self._engine = config, Pipeline(config)

    def follow(self) -> None:
        """Take part in every answer until rank 0 is gone."""
        question = torch.empty(2, dtype=torch.int32)
        while True:
            dist.recv(question, 0)
            for _ in self._answer(b"", *question.tolist()):
                pass

    def lead(self, ids: list[int], tokens: int) -> Iterator[int]:
        """Yield each token of an answer. Raises RuntimeError when a rank is gone."""
        question = torch.tensor([len(ids), tokens], dtype=torch.int32)
        for rank in range(1, len(self._config.stages)):
            dist.send(question, rank)
        yield from self._answer(b"".join(token.to_bytes(4, sys.byteorder) for token in ids), len(ids), tokens)

    def _answer(self, given: bytes, prompt_tokens: int, tokens: int) -> Iterator[int]:
        counts = (prompt_tokens, *[1] * (tokens - 1))
        self._engine.begin(counts)
        position = 0
        for step, count in enumerate(counts):
            given = self._engine.step(given, count, position, step)
            position += count
            yield int.from_bytes(given[:4], sys.byteorder)


class Handler(BaseHTTPRequestHandler):
    ring: Ring
    room: int  # tokens of a prompt and its answer
    vocab: int

    def do_GET(self) -> None:
        self._reply(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat = self.path.endswith("/chat/completions")
        words = (asked["messages"][-1]["content"] if chat else asked["prompt"]).split()
        tokens = int(asked.get("max_tokens", 16))
        if not words or tokens < 1 or len(words) + tokens > self.room:
            self._reply(400, {"error": {"message": f"a prompt and its answer have room for {self.room} tokens"}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        ids = [sum(word.encode()) % self.vocab for word in words]
        for token in self.ring.lead(ids, tokens):
            text = {"delta": {"content": f" {token}"}} if chat else {"text": f" {token}"}
            self._event({"choices": [{"index": 0, **text, "finish_reason": None}]})
        self._event({"choices": [{"index": 0, **({"delta": {}} if chat else {"text": ""}), "finish_reason": "length"}]})
        self._event({"choices": [], "usage": {"prompt_tokens": len(words), "completion_tokens": tokens}})
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing of requests that succeed."""

    def _event(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> int:
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=Rank)
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0"  # the only interface of an emulated host
    os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"  # torch asks for hosts' names, and no name server answers here
    dist.init_process_group(
        "gloo", init_method=f"tcp://{config.meeting}", rank=config.rank, world_size=len(config.stages), timeout=IDLE
    )
    ring = Ring(config)
    dist.monitored_barrier(timeout=WAIT)
    if config.rank > 0:
        ring.follow()
    Handler.ring, Handler.room, Handler.vocab = ring, config.shape.capacity, config.shape.vocab
    with HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        print("ready", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
