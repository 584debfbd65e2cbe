"""Record the messages of llama.cpp's RPC, token by token, by a relay before each server that reads the frames.

A request is a command (one byte), a length (eight bytes) and a body, an answer a length and a body
(ggml/src/ggml-rpc/ggml-rpc.cpp, send_rpc_cmd). The relay shares the machine's clock with the main host, which prints
when each token began and ended; bytes are those of TCP's payload.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

COMMANDS: Final = (
    "ALLOC_BUFFER", "GET_ALIGNMENT", "GET_MAX_SIZE", "BUFFER_GET_BASE", "FREE_BUFFER", "BUFFER_CLEAR", "SET_TENSOR",
    "SET_TENSOR_HASH", "GET_TENSOR", "COPY_TENSOR", "GRAPH_COMPUTE", "GET_DEVICE_MEMORY", "INIT_TENSOR",
    "GET_ALLOC_SIZE", "HELLO", "DEVICE_COUNT", "GRAPH_RECOMPUTE", "MEMSET_TENSOR",
)  # fmt: skip
ANSWER: Final = "answer"
CHUNK_BYTES: Final = 1 << 18
RUN_TIMEOUT_S: Final = 240.0


@dataclass
class Relay:
    """Between the main host and one server, on loopback. `messages`: (when it was whole, command or ANSWER, bytes)."""

    server_port: int
    messages: list[tuple[int, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                main, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(("127.0.0.1", self.server_port))
            for each in (main, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, target, requests in ((main, server, True), (server, main, False)):
                threading.Thread(target=self._pump, args=(source, target, requests), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, requests: bool) -> None:
        frames = Frames(requests)
        try:
            while data := source.recv(CHUNK_BYTES):
                at_ns = time.monotonic_ns()
                self.messages += [(at_ns, kind, size) for kind, size in frames.feed(data)]
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:  # either side hung up: the run is over
            source.close()


class Frames:
    """Cut one direction of a connection into its messages; only lengths are read, bodies are skipped."""

    def __init__(self, requests: bool) -> None:
        self._head = struct.Struct("<BQ" if requests else "<Q")
        self._pending = b""
        self._left = 0
        self._current = ("", 0)

    def feed(self, data: bytes) -> Iterator[tuple[str, int]]:
        """Yield (command, bytes with header) of every message that ends in this data."""
        rest = self._pending + data
        self._pending = b""
        while rest:
            if self._left == 0:
                if len(rest) < self._head.size:
                    self._pending = rest
                    return
                *command, size = self._head.unpack_from(rest)
                kind = ANSWER if not command else COMMANDS[command[0]]
                self._current, self._left = (kind, size + self._head.size), size + self._head.size
            taken = min(self._left, len(rest))
            rest, self._left = rest[taken:], self._left - taken
            if self._left == 0:
                yield self._current


def capture(main: Path, model: Path, server_ports: Sequence[int], split: Sequence[int], steps: int) -> dict[str, Any]:
    """Run the main host over these servers and return the messages of a prompt and of a token. Raises subprocess
    errors.

    `split`: layers of each server, the output layer counted with the last; the first decode step is left out, because
    the graph is sent with it.
    """
    relays = [Relay(port) for port in server_ports]
    servers = ",".join(f"127.0.0.1:{relay.port}" for relay in relays)
    words = [str(main), str(model), servers, str(sum(split)), ",".join(map(str, split)), "16", str(steps), "100"]
    done = subprocess.run(words, input="run\n", capture_output=True, text=True, check=True, timeout=RUN_TIMEOUT_S)
    for relay in relays:
        relay.close()
    spans = [tuple(map(int, line.split()[1:])) for line in done.stdout.splitlines() if line.startswith("token")]
    return {
        "token_ms": [round((end - start) / 1e6, 2) for start, end in spans[2:]],
        "servers": [
            {
                "layers": layers,
                "a_prompt": _a_token(relay.messages, spans[:1]),
                "a_token": _a_token(relay.messages, spans[2:]),
            }
            for relay, layers in zip(relays, split, strict=True)
        ],
    }


def _a_token(messages: Sequence[tuple[int, str, int]], spans: Sequence[tuple[int, ...]]) -> dict[str, list[int]]:
    """Return the bytes of each message of a token, by kind; of the token that is like most others."""
    seen: Counter[tuple[tuple[str, tuple[int, ...]], ...]] = Counter()
    for start, end in spans:
        here: dict[str, list[int]] = defaultdict(list)
        for at_ns, kind, size in messages:
            if start <= at_ns <= end:
                here[kind].append(size)
        seen[tuple((kind, tuple(sizes)) for kind, sizes in here.items())] += 1
    return {kind: list(sizes) for kind, sizes in seen.most_common(1)[0][0]}
