"""Probes of earlier releases: their samples are understood, or they are told who must update."""

from __future__ import annotations

import time

import msgspec
from collector_rig import Probe, stored
from websockets.asyncio.client import connect

from swarm_protocol.messages.probe_messages import (
    Refused,
)

FIRST_RELEASE = {
    "hello": {
        "type": "hello", "protocol": 1, "node_key": bytes(range(32)), "name": "elder", "epoch": 7, "udp_port": 4000,
        "tcp_port": 4001, "software": "swarm-probe 0.1.0",
        "facts": {"system": "Linux", "cpu": "EPYC", "cores": 8, "ram_bytes": 1 << 34},
    },
    "link": {
        "type": "link", "path": "direct", "sent": 20, "lost": 1, "rtt_min_ms": 9.5, "rtt_p50_ms": 10.5,
        "rtt_p95_ms": 12.0, "rtt_p99_ms": 12.5, "pdv_ms": 2.5, "jitter_rfc3550_ms": 0.5, "timestamps": "kernel",
    },
    "hop": {
        "type": "hop", "size_bytes": 16384, "cadence_ms": 150.0, "n": 20, "min_ms": 20.0, "p50_ms": 21.0,
        "p95_ms": 22.0, "p99_ms": 23.0,
    },
}  # fmt: skip


async def test_samples_of_the_first_release_are_understood(rig, tmp_path):
    """A spool may hold them. They know none of the fields that came since: each needs a default."""
    at_ns = time.time_ns()
    async with rig.probe("kiln") as kiln, rig.probe("oven") as oven:
        await kiln.welcome()
        await oven.welcome()
        samples = [dict(FIRST_RELEASE[kind], at_ns=at_ns, peer=oven.node_id) for kind in ("link", "hop")]
        await kiln.connection.send(msgspec.msgpack.encode({"type": "batch", "epoch": 7, "seq": 1, "samples": samples}))
        await kiln.acked(1)
    ((_, link),), ((_, hop),) = stored(tmp_path, "link"), stored(tmp_path, "hop")
    assert (link.rtt_p50_ms, hop.p50_ms) == (10.5, 21.0)


async def test_a_probe_of_an_earlier_protocol_is_told_so_in_one_line(rig):
    """It shows a secret, or signs what is of use at any collector, and it cannot read ids of 128 bits."""
    async with connect(rig.url("/probe"), compression=None, proxy=None) as connection:
        await connection.send(msgspec.msgpack.encode(FIRST_RELEASE["hello"]))
        refused = await Probe(connection, "elder").next(Refused)
    assert (refused.reason, refused.final) == ("the probe speaks protocol 1, the collector 2; update the probe", True)
