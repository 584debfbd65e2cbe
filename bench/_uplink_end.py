"""One end of a transfer, as a process in a host of the lab: `serve ADDRESS`, or `send ADDRESS BYTES IDLE_MS PDV_MS`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

from swarm_probe.measure import uplink
from swarm_probe.sockets import target
from swarm_probe.streams.channel import PeerError
from swarm_probe.streams.tcp_endpoint import Caller, Purpose, Service, Stream, TcpPeer, dial

PORT = 9999
WHO = Caller("bench", 7, b"k" * 32)


async def serve(address: str) -> None:
    async def take(stream: Stream, _peer: str, size: int) -> None:
        await uplink.receive(stream, size, time.monotonic_ns)

    peer = TcpPeer({Purpose.UPLINK: Service(take, uplink.MAX_TRANSFER_BYTES, lambda: False)}, Counter())
    peer.announce([WHO])
    peer.open(address, PORT)
    await asyncio.get_running_loop().create_future()


async def send(address: str, max_bytes: int, idle_ms: float, pdv_ms: float) -> None:
    to = target(address, PORT)
    assert to is not None
    try:
        stream = await dial(to, WHO, Purpose.UPLINK, max_bytes, Counter())
        done = await uplink.send(stream, max_bytes, 30.0, round(idle_ms * 1e6), time.monotonic_ns, round(pdv_ms * 1e6))
        stream.close()
    except PeerError as error:
        print(json.dumps({"error": str(error)}))
        return
    print(json.dumps({"mbps": done.mbps, "bound": done.bound, "sent": done.sent_bytes, "ended": done.ended,
                      "seconds": done.seconds}))  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    else:
        asyncio.run(send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])))
