"""Flood from a network namespace of its own, for `bench flood`: pings, STUN requests and half-open connections.

`unshare -n python -m bench.support.processes.flooder '{"port": …}'`. Prints "ready" and waits for a line, by when its
interface is up; floods until the next line, then prints what it has sent as one JSON object. Bounded by `most_s` in any
case.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections import deque
from typing import Any

from bench.support.processes.load_client import FACTS, key
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import COLLECTOR_HEADER, NONCE_HEADER, PROTOCOL_VERSION, Hello
from swarm_protocol.packets import stun_packet
from swarm_protocol.trust import signing

TICK_S = 0.01
PING = b"\x89\x80\0\0\0\0"  # empty, masked with zeros
UPGRADE = (
    b"GET /probe HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # and nothing more
CONNECT_BYTES = 400  # of packets that one connection takes until it is half open
STUN_BYTES = 28 + 14  # of headers of one datagram


class Flooder:
    def __init__(self, job: dict[str, Any]) -> None:
        self.where = (job["host"], job["port"])
        self.stun = (job["host"], job["stun_port"])
        self.job = job
        self.sources: list[str] = job["sources"]
        self.over = threading.Event()
        self.sent = {"ping_bytes": 0, "ping_refused": 0, "stun": 0, "connects": 0, "cut": 0}

    def run(self) -> dict[str, int]:
        kinds = (self.pings, self.requests, self.half_open)
        threads = [threading.Thread(target=kind, daemon=True) for kind in kinds]
        for thread in threads:
            thread.start()
        reader = threading.Thread(target=self._await_stop, daemon=True)
        reader.start()
        self.over.wait(self.job["most_s"])
        self.over.set()
        for thread in threads:
            thread.join(5)
        return self.sent

    def _await_stop(self) -> None:
        sys.stdin.readline()
        self.over.set()

    # ------------------------------------------------------------ pings of sessions that have joined

    def joined(self, number: int) -> socket.socket:
        made = socket.create_connection(self.where, 30, (self.sources[number % len(self.sources)], 0))
        made.sendall(UPGRADE)
        head = b""
        while b"\r\n\r\n" not in head:
            came = made.recv(4096)
            if not came:
                raise ConnectionError("cut before it was a session")
            head += came
        headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
        seed = key(1_000_000 + number)
        handshake = signing.Handshake(
            bytes.fromhex(headers[NONCE_HEADER.lower()]),
            bytes.fromhex(headers[COLLECTOR_HEADER.lower()]),
            signing.plain_text_binding(*made.getpeername()[:2]),
        )
        proof = signing.sign(seed, handshake.signed("join"))
        hello = encode(
            Hello(protocol=PROTOCOL_VERSION, public_key=signing.public_key(seed), proof=proof, name=f"f{number}",
                  epoch=1, udp_port=0, tcp_port=0, software="bench", facts=FACTS, at_ns=time.time_ns())
        )  # fmt: skip
        made.sendall(b"\x82" + bytes((0x80 | 126,)) + len(hello).to_bytes(2, "big") + bytes(4) + hello)
        made.setblocking(False)
        return made

    def pings(self) -> None:
        """Send pings; every second connection does not read its pongs."""
        sessions: dict[int, socket.socket] = {}
        each = int(self.job["ping_mbps"] * 1e6 / 8 * TICK_S / self.job["pingers"] / len(PING))
        blob = PING * max(1, each)
        while not self.over.is_set():
            began = time.monotonic()
            for number in range(self.job["pingers"]):
                if number not in sessions:
                    try:
                        sessions[number] = self.joined(number)
                    except OSError:
                        self.sent["ping_refused"] += 1
                        break
                try:
                    self.sent["ping_bytes"] += sessions[number].send(blob)
                    if number % 2:
                        sessions[number].recv(65536)
                except BlockingIOError:
                    continue
                except OSError:
                    sessions.pop(number).close()
            time.sleep(max(0.0, began + TICK_S - time.monotonic()))

    # ------------------------------------------------------------ STUN

    def requests(self) -> None:
        made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in self.sources]
        for each, source in zip(made, self.sources, strict=True):
            each.bind((source, 0))
            each.setblocking(False)
        request = stun_packet.encode_request(os.urandom(12))
        a_tick = int(self.job["stun_mbps"] * 1e6 / 8 * TICK_S / (len(request) + STUN_BYTES))
        while not self.over.is_set():
            began = time.monotonic()
            for i in range(a_tick):
                with contextlib.suppress(OSError):
                    made[i % len(made)].sendto(request, self.stun)
                    self.sent["stun"] += 1
            time.sleep(max(0.0, began + TICK_S - time.monotonic()))

    # ------------------------------------------------------------ half-open

    def half_open(self) -> None:
        """Open silent connections, ones that begin a TLS handshake, and WebSockets that never say hello."""
        held: deque[socket.socket] = deque()
        fresh: deque[socket.socket] = deque()
        first = (b"", CLIENT_HELLO, UPGRADE, UPGRADE)
        a_tick = max(1, int(self.job["half_open_mbps"] * 1e6 / 8 * TICK_S / CONNECT_BYTES))
        while not self.over.is_set():
            began = time.monotonic()
            for i in range(len(fresh)):
                made = fresh.popleft()
                try:
                    made.send(first[i % len(first)])
                    held.append(made)
                except OSError:
                    self.sent["cut"] += 1
                    made.close()
            for _ in range(a_tick):
                made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                made.setblocking(False)
                made.bind((self.sources[self.sent["connects"] % len(self.sources)], 0))
                made.connect_ex(self.where)
                self.sent["connects"] += 1
                fresh.append(made)
            while len(held) > self.job["held"]:
                held.popleft().close()
            time.sleep(max(0.0, began + TICK_S - time.monotonic()))


def main(job: dict[str, Any]) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(Flooder(job).run()), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
