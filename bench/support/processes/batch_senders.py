"""Run many probes in one process with the real protocol: join, wait for a line on stdin, send all, print the seconds.

`python -m bench.support.processes.batch_senders HOST:PORT NODES PEERS ROUNDS SAMPLES_PER_BATCH`
"""

from __future__ import annotations

import asyncio
import sys
import time

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench.support.synthetic import swarm_samples
from swarm_probe.collector_client.batch_sender import in_columns
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import (
    COLLECTOR_HEADER,
    NONCE_HEADER,
    PROBE_PATH,
    PROTOCOL_VERSION,
    Ack,
    Batch,
    Hello,
    HostFacts,
    Refused,
    SlowDown,
    Welcome,
    decode_from_collector,
)
from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.trust import signing

IN_FLIGHT = 4  # as a probe's link has
AN_ADDRESS = 4  # probes; the collector limits the frames of one address to a thousand a second
FACTS = HostFacts(system="simulated", cpu="none", cores=1, ram_bytes=1 << 30)


class Probe:
    def __init__(self, url: str, key: bytes, number: int, samples: list[LinkSample], batch: int) -> None:
        self._url, self._key, self._name = url, key, f"bench-{number}"
        self._source = (f"127.3.0.{number // AN_ADDRESS + 1}", 0)
        self._epoch = time.time_ns()
        chunks = [tuple(samples[i : i + batch]) for i in range(0, len(samples), batch)]
        batches = [Batch(epoch=self._epoch, seq=seq, samples=chunk) for seq, chunk in enumerate(chunks, start=1)]
        self._in_rows = [encode(batch) for batch in batches]
        self._in_columns = list(map(in_columns, self._in_rows))
        self._batches = self._in_rows

    async def join(self) -> None:
        self._ws: ClientConnection = await connect(
            self._url, compression=None, proxy=None, open_timeout=60, ping_interval=None, local_addr=self._source
        )
        assert self._ws.response is not None
        headers = self._ws.response.headers
        handshake = signing.Handshake(
            bytes.fromhex(headers[NONCE_HEADER]),
            bytes.fromhex(headers[COLLECTOR_HEADER]),
            signing.plain_text_binding(*self._ws.remote_address[:2]),
        )
        hello = Hello(
            protocol=PROTOCOL_VERSION,
            public_key=signing.public_key(self._key),
            proof=signing.sign(self._key, handshake.signed("join")),
            bound_to=handshake.bound_to,
            name=self._name,
            epoch=self._epoch,
            udp_port=0,
            tcp_port=0,  # nobody measures it, so it gets no leases
            software="bench",
            facts=FACTS,
        )
        await self._ws.send(encode(hello))
        while not isinstance(message := decode_from_collector(await self._ws.recv(decode=False)), Welcome):
            if isinstance(message, Refused):
                raise SystemExit(f"refused: {message.reason}")
        self._batches = self._in_columns if message.columns else self._in_rows

    async def send_all(self) -> None:
        """Send a few batches ahead of the acknowledgements; refused ones go again after the requested wait."""
        committed = sent = 0
        while committed < len(self._batches):
            while sent < len(self._batches) and sent - committed < IN_FLIGHT:
                await self._ws.send(self._batches[sent])
                sent += 1
            message = decode_from_collector(await self._ws.recv(decode=False))
            if isinstance(message, Ack):
                committed = message.seq
            elif isinstance(message, SlowDown):
                await asyncio.sleep(message.retry_ms / 1000)
                sent = committed
            elif isinstance(message, Refused):
                raise SystemExit(f"refused: {message.reason}")


async def main(where: str, nodes: int, peers: int, rounds: int, batch: int) -> None:
    samples: list[list[LinkSample]] = [[] for _ in range(nodes)]
    for _, node, window in swarm_samples.link_rounds(nodes, peers, rounds, time.time_ns()):
        samples[node].extend(window)
    url = f"ws://{where}{PROBE_PATH}"
    made = zip(swarm_samples.keys(nodes), samples, strict=True)
    probes = [Probe(url, key, i, own, batch) for i, (key, own) in enumerate(made)]
    for begin in range(0, nodes, 20):
        await asyncio.gather(*(probe.join() for probe in probes[begin : begin + 20]))
    print("joined", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    try:
        await asyncio.gather(*(probe.send_all() for probe in probes))
    except ConnectionClosed as error:
        raise SystemExit(f"the collector closed the connection: {error}") from None
    print(time.monotonic() - began, flush=True)
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:6])))
