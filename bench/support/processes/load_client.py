"""Simulate probes and dashboards for `bench collector`: the real protocol, in a process of their own.

`python -m bench.support.processes.load_client '{"port": …, "mode": …}'`. A WebSocket client of its own over asyncio
protocols, so that ten thousand of them fit beside the collector they load: what is sent and answered is what
swarm-probe sends. Connections come from 127.1.0.0/16, two hundred an address, as the collector allows. Prints one JSON
object at the end.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import random
import re
import ssl
import struct
import sys
import time
from asyncio import sslproto
from typing import Any

from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.column_batch import ColumnBatch
from swarm_protocol.messages.probe_messages import (
    COLLECTOR_HEADER,
    NONCE_HEADER,
    PROTOCOL_VERSION,
    Ack,
    Batch,
    Heartbeat,
    Hello,
    HostFacts,
    Plan,
    Refused,
    SlowDown,
    Welcome,
    decode_from_collector,
)
from swarm_protocol.messages.samples import HostSample, LinkSample, Sample
from swarm_protocol.messages.viewer_messages import Subscribe
from swarm_protocol.trust import identity, signing

FACTS = HostFacts(system="Linux 6.1 x86_64", cpu="EPYC", cores=8, ram_bytes=1 << 34)
_NONCE, _COLLECTOR = (
    re.compile(rb"\r\n" + name.encode() + rb": ([0-9a-f]+)\r\n", re.IGNORECASE)
    for name in (NONCE_HEADER, COLLECTOR_HEADER)
)
_HEARTBEAT = re.compile(rb"heartbeat_ms\xcb(.{8})", re.DOTALL)  # at the end of a plan, where there is one
AN_ADDRESS = 200  # connections of one source address
CONNECTING = 256  # at once: what a listen backlog takes


def key(number: int) -> bytes:
    return hashlib.sha256(f"bench {number}".encode()).digest()


def node_id(number: int) -> str:
    return identity.node_id(signing.public_key(key(number)))


def link(at_ns: int, peer: str, rtt_ms: float) -> LinkSample:
    return LinkSample(
        at_ns=at_ns, peer=peer, path="direct", sent=20, lost=0, rtt_min_ms=rtt_ms, rtt_p50_ms=rtt_ms + 0.5,
        rtt_p95_ms=rtt_ms + 2.0, rtt_p99_ms=rtt_ms + 3.0, pdv_ms=2.0, jitter_rfc3550_ms=0.4, timestamps="kernel",
    )  # fmt: skip


class Socket(asyncio.Protocol):
    """One WebSocket, client side: frames in and out, no extensions."""

    def __init__(self, path: str, opened: asyncio.Future[None]) -> None:
        self._path = path
        self._opened = opened
        self._buffer = bytearray()
        self._up = False
        self.nonce = self.collector = b""
        self.lost = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        nonce = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self._opened.done():
            self._opened.set_exception(exc or ConnectionError("closed before it was open"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._up:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._buffer.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(bytes(self._buffer[:80]).decode("ascii", "replace"))
            if (found := _NONCE.search(self._buffer, 0, end)) is not None:
                self.nonce = bytes.fromhex(found[1].decode())
            if (found := _COLLECTOR.search(self._buffer, 0, end)) is not None:
                self.collector = bytes.fromhex(found[1].decode())
            del self._buffer[: end + 4]
            self._up = True
            self._opened.set_result(None)
        while (frame := self._frame()) is not None:
            opcode, payload = frame
            if opcode == 2:
                self.message(payload)
            elif opcode == 9:
                self._send(10, payload)

    def message(self, payload: bytes) -> None:
        raise NotImplementedError

    def send(self, payload: bytes) -> None:
        self._send(2, payload)

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65536:
            head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
        assert self.transport is not None
        self.transport.write(head + bytes(4) + payload)  # masked with zeros: the same work for the other side

    def _frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, at = buffer[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < at + size:
            return None
        opcode, payload = buffer[0] & 0x0F, bytes(buffer[at : at + size])
        del buffer[: at + size]
        return opcode, payload


class Probe(Socket):
    def __init__(self, load: Load, number: int, opened: asyncio.Future[None]) -> None:
        super().__init__("/probe", opened)
        self.load, self.number = load, number
        self.heartbeat_s = 5.0
        self.seq = 0
        self.sent_at: dict[int, float] = {}
        self.settled = False
        self.columns = False

    def hello(self) -> None:
        seed = key(self.number)
        assert self.transport is not None
        tls = self.transport.get_extra_info("ssl_object")
        if tls is not None:
            bound_to = signing.certificate_binding(tls.getpeercert(binary_form=True))
        else:
            bound_to = signing.plain_text_binding(*self.transport.get_extra_info("peername")[:2])
        proof = signing.sign(seed, signing.Handshake(self.nonce, self.collector, bound_to).signed("join"))
        self.send(
            encode(
                Hello(
                    proof=proof, bound_to=bound_to,
                    protocol=PROTOCOL_VERSION, public_key=signing.public_key(seed), name=f"n{self.number}",
                    epoch=self.load.epoch, udp_port=4000,
                    tcp_port=4001, addresses=(), software="bench", facts=FACTS, token=self.load.token,
                    at_ns=time.time_ns(),
                )
            )
        )  # fmt: skip

    def batch(self, samples: tuple[Sample, ...]) -> None:
        self.seq += 1
        self.sent_at[self.seq] = time.monotonic()
        batch = ColumnBatch.of(self.load.epoch, self.seq, samples) if self.columns else None
        self.send(encode(batch or Batch(epoch=self.load.epoch, seq=self.seq, samples=samples)))

    def message(self, payload: bytes) -> None:
        load = self.load
        if payload[:24].find(b"\xa4plan") >= 0:  # large, and little is done with it here: not decoded
            load.plans += 1
            if (told := _HEARTBEAT.search(payload, max(0, len(payload) - 1024))) is not None:
                self.heartbeat_s = struct.unpack(">d", told[1])[0] / 1000
            self._settle()
            return
        message = decode_from_collector(payload)
        if isinstance(message, Ack):
            now = time.monotonic()
            for seq in [seq for seq in self.sent_at if seq <= message.seq]:
                load.waits.append(now - self.sent_at.pop(seq))
            load.acked += 1
            if load.on_ack is not None:
                load.on_ack(self)
        elif isinstance(message, Welcome):
            self.heartbeat_s = message.heartbeat_ms / 1000
            self.columns = message.columns
            self.seq = message.committed_seq
            load.welcomes += 1
            asyncio.get_running_loop().call_later(load.rng.random() * self.heartbeat_s, self.beat)
        elif isinstance(message, Plan):
            load.plans += 1
            self._settle()
        elif isinstance(message, SlowDown):
            load.slowed += 1
        elif isinstance(message, Refused):
            load.refused += 1

    def beat(self) -> None:
        """Send heartbeats from the welcome on, at the collector's interval."""
        if not self.lost:
            self.send(encode(Heartbeat(at_ns=time.time_ns(), spooled=0)))
            asyncio.get_running_loop().call_later(self.heartbeat_s, self.beat)

    def _settle(self) -> None:
        if not self.settled:
            self.settled = True
            self.load.settled += 1
            if self.load.settled == self.load.count:
                self.load.all_settled.set()


class Load:
    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.port: int = job["port"]
        self.count: int = job["probes"]
        self.token: str = job.get("token", "")
        self.epoch = job.get("epoch", 7)
        self.waits: list[float] = []
        self.acked = self.welcomes = self.plans = self.slowed = self.refused = self.settled = 0
        self.all_settled = asyncio.Event()
        self.on_ack: Any = None
        self.probes: list[Probe] = []
        self.tls = _trusting() if job.get("tls") else None
        self.rng = random.Random(1)

    async def connect(self) -> float:
        """Connect all of them, as fast as they are let in; return the seconds until the last has its plan."""
        began = time.monotonic()
        limit = asyncio.Semaphore(CONNECTING)

        async def one(number: int) -> None:
            async with limit:
                loop = asyncio.get_running_loop()
                while True:
                    opened: asyncio.Future[None] = loop.create_future()
                    source = (f"127.1.{number // AN_ADDRESS // 250}.{number // AN_ADDRESS % 250 + 1}", 0)
                    try:
                        _, probe = await loop.create_connection(
                            lambda: Probe(self, number, opened),  # noqa: B023 - used before the loop goes on
                            "127.0.0.1", self.port, local_addr=source, ssl=self.tls,
                        )  # fmt: skip
                        await opened
                    except OSError:
                        await asyncio.sleep(self.rng.random())
                        continue
                    probe.hello()
                    self.probes.append(probe)
                    return

        await asyncio.gather(*(one(number) for number in range(self.count)))
        print(f"connected {time.monotonic() - began:.1f}", file=sys.stderr, flush=True)
        async with asyncio.timeout(self.job.get("settle_s", 240)):
            await self.all_settled.wait()
        return time.monotonic() - began

    def steady_samples(self, probe: Probe) -> tuple[Sample, ...]:
        """Return what a watched probe of a large swarm has after ten seconds: five windows of links, two readings."""
        at_ns = time.time_ns()
        peers = [node_id((probe.number + 1 + self.rng.randrange(self.job["peers"])) % self.count) for _ in range(5)]
        hosts = [
            HostSample(at_ns=at_ns - i * 5 * 10**9, cpu_percent=12.5, ram_free_bytes=1 << 33, ram_total_bytes=1 << 34)
            for i in range(2)
        ]
        return (*(link(at_ns, peer, 20.0 + self.rng.random()) for peer in dict.fromkeys(peers)), *hosts)

    async def steady(self, seconds: float, every_s: float) -> None:
        """Send a batch of each probe every `every_s`, spread evenly."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds

        def batch(probe: Probe) -> None:
            if loop.time() < ends and not probe.lost:
                probe.batch(self.steady_samples(probe))
                loop.call_later(every_s, batch, probe)

        for probe in self.probes:
            loop.call_later(self.rng.random() * every_s, batch, probe)
        await asyncio.sleep(seconds)

    async def flood(self, seconds: float, size: int, ahead: int) -> None:
        """Keep `ahead` batches of `size` link samples in flight for every probe."""
        ends = time.monotonic() + seconds
        peers = [node_id(number) for number in range(self.count)]
        base_ns, made = time.time_ns(), 0

        def more(probe: Probe) -> None:
            nonlocal made
            if time.monotonic() < ends:
                made += 1
                at_ns = base_ns + made * 1000
                probe.batch(
                    tuple(
                        link(at_ns + i, peers[(probe.number + 1 + i % (self.count - 1)) % self.count], 20.0)
                        for i in range(size)
                    )
                )

        self.on_ack = more
        for probe in self.probes:
            for _ in range(ahead):
                more(probe)
        await asyncio.sleep(seconds)
        self.on_ack = None


def _trusting() -> ssl.SSLContext:
    """Return a context that takes any certificate, as a probe does that checks the fingerprint itself."""
    sslproto.SSLProtocol.max_size = 16 << 10  # of each connection of this process, which is not measured
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Dashboard(Socket):
    """Takes frames and only counts them: drawing is another machine's work."""

    def __init__(self, tally: dict[str, int], opened: asyncio.Future[None]) -> None:
        super().__init__("/view", opened)
        self.tally = tally

    def message(self, payload: bytes) -> None:
        self.tally["frames"] += 1
        self.tally["bytes"] += len(payload)
        if payload[:24].find(b"\xa8keyframe") >= 0:
            self.tally["keyframes"] += 1


async def watch(port: int, count: int, rate_hz: float, tally: dict[str, int]) -> list[Dashboard]:
    loop = asyncio.get_running_loop()
    dashboards = []
    for number in range(count):
        opened: asyncio.Future[None] = loop.create_future()
        _, dashboard = await loop.create_connection(
            lambda: Dashboard(tally, opened),  # noqa: B023 - used before the loop goes on
            "127.0.0.1", port, local_addr=(f"127.2.0.{number // AN_ADDRESS + 1}", 0),
        )  # fmt: skip
        await opened
        dashboard.send(encode(Subscribe(protocol=1, rate_hz=rate_hz)))
        dashboards.append(dashboard)
    return dashboards


async def main(job: dict[str, Any]) -> dict[str, Any]:
    load = Load(job)
    result: dict[str, Any] = {"settle_s": await load.connect()}
    if job["mode"] != "join":
        tally = {"frames": 0, "keyframes": 0, "bytes": 0}
        dashboards = await watch(load.port, job.get("viewers", 0), job.get("rate_hz", 4.0), tally)
        if rest_s := job.get("rest_s", 0.0):  # of a swarm that has just formed everybody's plan is made again
            await load.steady(rest_s, job["every_s"])
        print("go", flush=True)
        load.waits.clear()
        tally.update(dict.fromkeys(tally, 0))
        if job["mode"] == "flood":
            await load.flood(job["seconds"], job["size"], job["ahead"])
        else:
            await load.steady(job["seconds"], job["every_s"])
        print("stop", flush=True)
        result["frames"] = tally
        result["dashboards_lost"] = sum(dashboard.lost for dashboard in dashboards)
    waits = sorted(load.waits)
    result |= {"acked": load.acked, "slowed": load.slowed, "refused": load.refused, "plans": load.plans,
               "lost": sum(probe.lost for probe in load.probes)}  # fmt: skip
    if waits:
        result |= {"ack_p50_ms": 1e3 * waits[len(waits) // 2], "ack_p99_ms": 1e3 * waits[int(len(waits) * 0.99)]}
    return result


if __name__ == "__main__":
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))), flush=True)
