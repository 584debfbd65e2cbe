"""A collector that tries to make its volunteers attack others, run in the probe's own namespace at a public address.

`python hostile_collector.py HOST PORT`: welcomes whoever comes, and then names whatever it likes as members.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import (
    COLLECTOR_HEADER,
    NONCE_HEADER,
    Hello,
    Mapped,
    Peer,
    Plan,
    UplinkLease,
    Welcome,
    decode_from_probe,
)

KEY = b"k" * 16
SSID_IN = 7  # of the requests that are made to seem to come from REFLECTED_TO
REFLECTED_TO = "9.9.9.9"
VICTIMS = tuple(f"8.8.{i}.{j}" for i in (1, 2) for j in range(1, 120))
FORBIDDEN = (
    "127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.169.254", "224.0.0.1", "239.1.1.1",
    "255.255.255.255", "240.0.0.1", "0.0.0.0", "198.18.0.99", "example.org", "::1", "fe80::1", "ff02::1", "fd00::1",
    "::ffff:192.168.1.1",
)  # fmt: skip
LOW_PORTS = (53, 25, 80, 123, 443, 161)


def peer(number: int, hosts: tuple[str, ...], port: int, **changes: object) -> Peer:
    fields: dict[str, object] = {
        "node_id": f"{number:016x}",
        "name": f"n{number}",
        "hosts": hosts,
        "udp_port": port,
        "tcp_port": port,
        "stamp_key": KEY,
        "ssid_out": number + 1,
        "ssid_in": SSID_IN if number == 0 else 10_000 + number,
    }
    return Peer(**(fields | changes))  # type: ignore[arg-type]


def plan(revision: int) -> Plan:
    numbers = itertools.count(1)
    members = [peer(0, (REFLECTED_TO,), 9470, measure=False)]
    members += [peer(next(numbers), (host,), 9470) for host in FORBIDDEN]
    members += [peer(next(numbers), ("8.8.4.4",), port) for port in LOW_PORTS]
    members += [
        peer(next(numbers), (), 9470, mapped=(Mapped(host=host, port=9470),), nat="symmetric", quic=True)
        for host in ("10.9.9.9", "224.0.0.9")
    ]
    members += [peer(next(numbers), VICTIMS[i : i + 16], 2000 + revision % 1000) for i in range(0, len(VICTIMS), 16)]
    return Plan(
        revision=revision,
        peers=tuple(members),
        stamp_interval_ms=0.0,
        window_ms=1.0,
        hop_bytes=1 << 20,
        hop_cadence_ms=0.0,
        hop_every_ms=0.0,
        host_every_ms=0.0,
    )


async def attack(ws: ServerConnection) -> None:
    hello = decode_from_probe(await ws.recv(decode=False))
    assert isinstance(hello, Hello)
    print(f"udp {hello.udp_port} tcp {hello.tcp_port}", flush=True)
    welcome = Welcome(
        node_id="00112233445566aa",
        name="volunteer",
        committed_seq=0,
        heartbeat_ms=60_000.0,
        observed_host="198.18.0.10",
        stun_ports=(53, 123),
    )
    await ws.send(encode(welcome))
    reading = asyncio.create_task(drain(ws))
    for revision in itertools.count(1):
        await ws.send(encode(plan(revision)))
        for lease in range(8):
            victim = f"{30 + lease:016x}"
            await ws.send(
                encode(
                    UplinkLease(lease_id=revision * 10 + lease, peer=victim, max_bytes=16 << 20, expires_ms=60_000.0)
                )
            )
        await asyncio.sleep(0.25)
    reading.cancel()


async def drain(ws: ServerConnection) -> None:
    async for _ in ws:
        pass


async def handle(ws: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        await attack(ws)


def introduce(ws: ServerConnection, request: Request, response: Response) -> None:
    response.headers.update({NONCE_HEADER: bytes(32).hex(), COLLECTOR_HEADER: bytes(16).hex()})


async def main(host: str, port: int) -> None:
    async with serve(handle, host, port, compression=None, max_size=None, process_response=introduce):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
