"""Run one end of uplink tests in a host of the lab, as the probe does: `serve ADDRESS`, or `send ADDRESS TO BYTES`."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field

from swarm_probe.measure.paths import Paths, PathsConfig
from swarm_protocol.messages.probe_messages import Peer, Plan, UplinkLease
from swarm_protocol.messages.samples import ProbeSample, UplinkSample

PORT = 9999
KEY = b"k" * 32
SENDER, RECEIVER = "5" * 16, "e" * 16
SSIDS = {SENDER: 1, RECEIVER: 2}  # in packets that each of them sends
STAMP_MS = 40.0
SETTLE_S = 2.5  # round trips of the idle path, as a probe has had them for minutes
LEASE_MS = 30_000.0


@dataclass(slots=True)
class End:
    samples: list[ProbeSample] = field(default_factory=list)

    def paths(self, address: str) -> Paths:
        return Paths(PathsConfig(address, udp_port=PORT, tcp_port=PORT), self.samples.append)


def plan(me: str, other: str, address: str, *, measure: bool, trains: bool) -> Plan:
    peer = Peer(
        node_id=other,
        name=other[:4],
        hosts=(address,),
        udp_port=PORT,
        tcp_port=PORT,
        stamp_key=KEY,
        ssid_out=SSIDS[me],
        ssid_in=SSIDS[other],
        measure=measure,
        trains=trains,
    )
    return Plan(
        revision=1,
        peers=(peer,),
        stamp_interval_ms=STAMP_MS,
        window_ms=2_000.0,
        hop_bytes=1024,
        hop_cadence_ms=20.0,
        hop_every_ms=86_400_000.0,
        host_every_ms=86_400_000.0,
    )


async def serve(address: str) -> None:
    paths = End().paths(address)
    await paths.start()
    paths.update(plan(RECEIVER, SENDER, address, measure=False, trains=True))
    await asyncio.get_running_loop().create_future()


async def send(address: str, to: str, max_bytes: int, *, trains: bool) -> None:
    end = End()
    paths = end.paths(address)
    await paths.start()
    paths.update(plan(SENDER, RECEIVER, to, measure=True, trains=trains))
    await asyncio.sleep(SETTLE_S)
    lease = UplinkLease(lease_id=1, peer=RECEIVER, max_bytes=max_bytes, expires_ms=LEASE_MS)
    ok, detail, _ = await paths.run_uplink(lease)
    carried = sum(paths.counters().get(f"{way}_bytes_sent", 0) for way in ("udp", "tcp"))
    await paths.close()
    if not ok:
        print(json.dumps({"error": detail}))
        return
    (sample,) = [each for each in end.samples if isinstance(each, UplinkSample)]
    print(json.dumps({"mbps": sample.mbps, "bound": sample.bound, "sent": sample.sent_bytes, "ended": detail,
                      "seconds": sample.seconds, "transport": sample.transport, "carried": carried}))  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    else:
        asyncio.run(send(sys.argv[2], sys.argv[3], int(sys.argv[4]), trains="--no-trains" not in sys.argv))
