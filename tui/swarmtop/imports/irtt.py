"""Read `irtt client -o FILE`: round trips of one path at a steady pace.

Durations are nanoseconds. Field names as irtt 0.9 writes them (its JSON section in irtt-client(1)).
"""

from __future__ import annotations

import msgspec

from swarm_protocol.units import ms_from_ns
from swarmtop.imports.findings import Found, ImportProblem, LinkFound, NodeFound, quantile


class _Spread(msgspec.Struct):
    n: int
    min: float
    median: float


class _Stats(msgspec.Struct):
    rtt: _Spread
    packets_sent: int
    packet_loss_percent: float


class _Delay(msgspec.Struct):
    rtt: float | None = None  # missing where the packet was lost


class _Trip(msgspec.Struct):
    delay: _Delay = msgspec.field(default_factory=_Delay)


class _File(msgspec.Struct):
    stats: _Stats
    round_trips: list[_Trip] = []


def read(data: bytes, src: str, dst: str) -> Found:
    """Read a file. Raises ImportProblem."""
    try:
        file = msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError as error:
        raise ImportProblem(f"this is not a result of irtt ({error}); irtt client -o FILE.json writes one") from error
    if file.stats.rtt.n == 0:
        raise ImportProblem(
            f"all {file.stats.packets_sent} packets of this run were lost; there is no round trip in it"
        )
    trips = [trip.delay.rtt for trip in file.round_trips if trip.delay.rtt is not None]
    jitter_ms = ms_from_ns(quantile(trips, 0.95) - min(trips)) if trips else None
    rtt_ms, loss = ms_from_ns(file.stats.rtt.median), min(file.stats.packet_loss_percent / 100, 0.999)
    both = ((src, dst), (dst, src))
    notes = [
        f"{file.stats.packets_sent} packets, {file.stats.packet_loss_percent:g} % lost; both directions get the figures"
    ]
    if jitter_ms is None:
        notes.append("this file has no individual round trips, so no jitter: irtt client writes them unless told -Q")
    return Found(
        nodes=(NodeFound(src), NodeFound(dst)),
        links=tuple(LinkFound(a, b, rtt_ms=rtt_ms, jitter_ms=jitter_ms, loss=loss) for a, b in both),
        notes=tuple(notes),
        source="irtt",
    )
