"""What `iperf3 -J` printed: the rate that one path carried in one direction.

The receiver's figure counts, as what was sent may still lie in buffers. Field names as iperf 3.12 prints them.
`-R` turns the direction round. Round trips in it are those of a full queue and are left alone.
"""

from __future__ import annotations

import msgspec

from swarmtop.imports.found import Found, ImportProblem, LinkFound, NodeFound

_SHORT_S = 5.0  # below this slow start is a large part of a long path's transfer


class _Connection(msgspec.Struct):
    local_host: str
    remote_host: str


class _Test(msgspec.Struct):
    protocol: str
    reverse: int = 0
    duration: float = 0.0


class _Start(msgspec.Struct):
    test_start: _Test
    connected: list[_Connection] = []


class _Sum(msgspec.Struct):
    bits_per_second: float
    seconds: float = 0.0
    lost_percent: float | None = None  # UDP


class _End(msgspec.Struct):
    sum_received: _Sum | None = None
    sum: _Sum | None = None  # UDP before 3.7


class _File(msgspec.Struct):
    start: _Start
    end: _End
    error: str | None = None


def read(data: bytes, src: str | None = None, dst: str | None = None) -> Found:
    """`src` and `dst` are client and server; without them their addresses are the names. Raises ImportProblem."""
    try:
        file = msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError as error:
        raise ImportProblem(f"this is no result of iperf3 ({error}); iperf3 -J prints one") from error
    total = file.end.sum_received or file.end.sum
    if file.error or total is None or total.bits_per_second <= 0:
        raise ImportProblem(f"this run of iperf3 ended without a rate ({(file.error or 'nothing received')[:120]})")
    where = file.start.connected[0] if file.start.connected else None
    client = src or (where.local_host if where else "client")
    server = dst or (where.remote_host if where else "server")
    sender, receiver = (server, client) if file.start.test_start.reverse else (client, server)
    mbps = total.bits_per_second / 1e6
    notes = [f"{sender} sent {mbps:.1f} Mbit/s to {receiver}; the other direction is another test (iperf3 -R)"]
    if total.seconds < _SHORT_S:
        notes.append(
            f"{total.seconds:.0f} s are short: on a long path slow start takes a part of them; -t 10 -O 2 is better"
        )
    if file.start.test_start.protocol == "UDP":
        notes.append("a UDP test sends at the rate it was told: this is what got through, the line may carry more")
    return Found(
        nodes=(NodeFound(sender), NodeFound(receiver)),
        links=(LinkFound(sender, receiver, mbps=mbps),),
        notes=tuple(notes),
        source="iperf3",
    )
