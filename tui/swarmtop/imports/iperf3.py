"""Read `iperf3 -J`: the rate that a path carried, in one direction or (`--bidir`) in both.

The receiver's figure counts, as bytes that were sent may still be in buffers. Field names as iperf 3.12 to 3.18 print
them. `-R` reverses the direction. `--json-stream` writes the same in lines, an event each. Round trips in it are those
of a full queue and are ignored.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from swarmtop.imports.findings import Found, ImportProblem, LinkFound, NodeFound

_SHORT_S: Final = 5.0  # below, slow start is a large part of a long path's transfer


class _Connection(msgspec.Struct):
    local_host: str
    remote_host: str


class _Test(msgspec.Struct):
    protocol: str = "TCP"
    reverse: int = 0
    duration: float = 0.0
    bidir: int = 0


class _Start(msgspec.Struct):
    test_start: _Test = msgspec.field(default_factory=_Test)
    connected: list[_Connection] = []


class _Sum(msgspec.Struct):
    bits_per_second: float
    seconds: float = 0.0
    lost_percent: float | None = None  # UDP


class _End(msgspec.Struct):
    sum_received: _Sum | None = None
    sum: _Sum | None = None  # UDP before 3.7
    sum_received_bidir_reverse: _Sum | None = None
    sum_bidir_reverse: _Sum | None = None

    @property
    def there(self) -> _Sum | None:
        return self.sum_received or self.sum

    @property
    def back(self) -> _Sum | None:
        """Return the rate from server to client, of a test in both directions at once."""
        return self.sum_received_bidir_reverse or self.sum_bidir_reverse


class _File(msgspec.Struct):
    start: _Start
    end: _End | None = None
    error: str | None = None


def read(data: bytes, src: str | None = None, dst: str | None = None) -> Found:
    """Read a file. `src` and `dst` are client and server; by default named by their addresses. Raises ImportProblem."""
    file = _decoded(data)
    end = file.end or _End()
    test = file.start.test_start
    found = [total for total in (end.there, end.back) if total is not None and total.bits_per_second > 0]
    if file.error or not found:
        raise ImportProblem(f"this run of iperf3 ended without a rate ({(file.error or 'nothing received')[:120]})")
    where = file.start.connected[0] if file.start.connected else None
    client = src or (where.local_host if where else "client")
    server = dst or (where.remote_host if where else "server")
    ways = [(client, server), (server, client)]
    if test.reverse and not test.bidir:
        ways.reverse()
    links, notes = [], []
    for (sender, receiver), total in zip(ways, (end.there, end.back), strict=True):
        if total is None or total.bits_per_second <= 0:
            continue
        mbps = total.bits_per_second / 1e6
        links.append(LinkFound(sender, receiver, mbps=mbps))
        notes.append(f"{sender} sent {mbps:.1f} Mbit/s to {receiver}")
    if len(links) == 2:
        notes.append("both directions were full at once: on some lines each alone carries more")
    else:
        notes[-1] += "; the other direction is another test (iperf3 -R)"
    if found[0].seconds < _SHORT_S:
        notes.append(
            f"{found[0].seconds:.0f} s are short: on a long path slow start takes a part of them; -t 10 -O 2 is better"
        )
    if test.protocol == "UDP":
        notes.append("a UDP test sends at the rate it was told: this is what got through, the line may carry more")
    return Found(
        nodes=(NodeFound(ways[0][0]), NodeFound(ways[0][1])),
        links=tuple(links),
        notes=tuple(notes),
        source="iperf3",
    )


def _decoded(data: bytes) -> _File:
    try:
        return _of_lines(data) if is_stream(data) else msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError as error:
        raise ImportProblem(f"this is not a result of iperf3 ({error}); iperf3 -J prints one") from error


def is_stream(data: bytes) -> bool:
    """Return whether `--json-stream` wrote this: every line an object with its event."""
    lines = [line for line in data.splitlines() if line.strip()]
    return bool(lines) and lines[0].lstrip().startswith(b'{"event"')


def _of_lines(data: bytes) -> _File:
    """Return the events that `-J` puts under one object. A run that was cut off has no end."""
    whole: dict[str, Any] = {"start": {}}
    for line in data.splitlines():
        if not line.strip():
            continue
        event = msgspec.json.decode(line, type=dict[str, Any])
        if event.get("event") in ("start", "end", "error"):
            whole[str(event["event"])] = event.get("data")
    return msgspec.convert(whole, type=_File)
