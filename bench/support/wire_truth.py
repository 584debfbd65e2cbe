"""Replace the times in the router's records by those at which each packet really left and arrived.

The router of the lab is a process: it reads a packet some time after the sender's kernel handed it over, longest on an
idle machine, whose core has to wake up, and notes a delivery after the receiver's kernel has taken it. Both belong to
what the packet really took. So the truth about a packet is what an observer on the interfaces of both ends saw
(`wire_tap`), and the router's records only say which packet it was and what became of it.

An arrival has one stamp of the kernel, which every socket is given: that a probe's T2 and T4 agree with the tap's says
no more than that they are of the right packet, in the right clock. A departure has two: the tap's, as the packet
reaches the device, and a probe's (T1, T3), as the device takes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.support.processes.wire_tap import MAX_BYTES, TAP_DTYPE
from swarm_lab.emulation.truth import PacketOutcome, Records, Truth
from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.units import NS_PER_MS

_SAME = ("size", "kind", "ssid", "seq")


class Observed(NamedTuple):
    truth: Truth  # records of small packets, their times as at the interfaces
    read_late_ms: Floats  # by the router, after the packet had left its sender
    noted_late_ms: Floats  # a delivery, after the packet had arrived


def observed(truth: Truth, taps: Sequence[Path], addresses: Sequence[int]) -> Observed:
    """Return the truth as the taps of all hosts saw it; `addresses` are theirs, as numbers. Packets that a tap did not
    see, or whose order cannot be told, are left out; lost ones are kept as they are."""
    seen = [np.fromfile(path, TAP_DTYPE) for path in taps]
    records = truth.records[truth.records["size"] <= MAX_BYTES].copy()
    delivered = records["fate"] == PacketOutcome.DELIVERED
    left, came = np.zeros(len(records), np.int64), np.zeros(len(records), np.int64)
    for host, tap in enumerate(seen):
        for outgoing, ends, times in ((1, "src", left), (0, "dst", came)):
            mine = tap[(tap["outgoing"] == outgoing) & (tap[ends] == addresses[host])]
            other = "dst" if outgoing else "src"
            peers = np.array([addresses.index(each) if each in addresses else -1 for each in mine[other].tolist()])
            rows = np.flatnonzero((records[ends] == host) & (delivered | bool(outgoing)))
            _fill(times, rows, records, mine, peers, other, truth.wall_minus_mono_ns)
    known = delivered & (left > 0) & (came > 0)
    late = (records["in_ns"] - left)[known] / NS_PER_MS, (records["out_ns"] - came)[known] / NS_PER_MS
    records["in_ns"][known], records["out_ns"][known] = left[known], came[known]
    return Observed(Truth(records[known | ~delivered], truth.wall_minus_mono_ns), *late)


def _fill(
    times: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], records: Records, tap: Records,
    peers: npt.NDArray[np.int64], other: str, offset_ns: int,
) -> None:  # fmt: skip
    """Put the k-th sighting of packets that look alike into the k-th record of them, where there are as many."""
    sightings: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for peer, at_ns, *same in zip(peers.tolist(), tap["at_ns"].tolist(), *_columns(tap), strict=True):
        sightings[peer, *same].append(at_ns - offset_ns)
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    chosen = records[rows]
    for row, peer, *same in zip(rows.tolist(), chosen[other].tolist(), *_columns(chosen), strict=True):
        alike[peer, *same].append(row)
    for key, found in alike.items():
        if len(sightings[key]) == len(found):
            ordered = sorted(found, key=lambda row: records["in_ns"][row])
            times[ordered] = sorted(sightings[key])


def _columns(records: Records) -> list[list[int]]:
    return [records[name].tolist() for name in _SAME]
