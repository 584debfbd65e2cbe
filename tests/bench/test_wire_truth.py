"""The truth about a packet is what was seen at the interfaces of its two ends, not what the router noted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.support.processes.wire_tap import TAP_DTYPE
from bench.support.wire_truth import Observed, observed
from swarm_lab.emulation.truth import RECORD_DTYPE, Kind, PacketOutcome, Truth

OFFSET_NS = 1_000_000_000  # wall clock − monotonic clock
ADDRESSES = [0xC6120001, 0xC6120002]
MS = 1_000_000


def record(
    in_ms: float,
    out_ms: float,
    seq: int,
    fate: PacketOutcome = PacketOutcome.DELIVERED,
    kind: Kind = Kind.STAMP_REQUEST,
) -> Any:
    return (int(in_ms * MS), 0, int(out_ms * MS), seq, 7, 0, 1, 72, fate, kind)


def sighting(at_ms: float, seq: int, *, outgoing: bool, kind: Kind = Kind.STAMP_REQUEST) -> Any:
    return (int(at_ms * MS) + OFFSET_NS, *ADDRESSES, seq, 7, 72, kind, outgoing)


def seen(tmp_path: Path, records: list[Any], left: list[Any], came: list[Any]) -> Observed:
    taps = []
    for host, sightings in enumerate((left, came)):
        taps.append(tmp_path / f"{host}.tap")
        np.array(sightings, TAP_DTYPE).tofile(taps[-1])
    return observed(Truth(np.array(records, RECORD_DTYPE), OFFSET_NS), taps, ADDRESSES)


def test_times_are_those_of_the_interfaces_and_the_routers_lateness_is_told(tmp_path: Path) -> None:
    found = seen(
        tmp_path,
        [record(1.05, 11.0, seq=1)],
        [sighting(1.0, 1, outgoing=True)],
        [sighting(10.98, 1, outgoing=False)],
    )
    (packet,) = found.truth.records
    assert (packet["in_ns"], packet["out_ns"]) == (1.0 * MS, 10.98 * MS)
    np.testing.assert_allclose((found.read_late_ms, found.noted_late_ms), [[0.05], [0.02]])


def test_packets_that_look_alike_are_told_apart_by_their_order(tmp_path: Path) -> None:
    found = seen(
        tmp_path,
        [record(2.1, 12, 0, kind=Kind.UDP), record(1.1, 11, 0, kind=Kind.UDP)],
        [sighting(at, 0, outgoing=True, kind=Kind.UDP) for at in (1.0, 2.0)],
        [sighting(at, 0, outgoing=False, kind=Kind.UDP) for at in (10.9, 11.9)],
    )
    assert found.truth.records["in_ns"].tolist() == [2 * MS, 1 * MS]
    assert found.truth.records["out_ns"].tolist() == [11.9 * MS, 10.9 * MS]


def test_a_packet_that_a_tap_missed_is_left_out_and_a_lost_one_stays_lost(tmp_path: Path) -> None:
    """Which of two that look alike was seen cannot be told, so both are left out."""
    found = seen(
        tmp_path,
        [
            record(1.1, 11, seq=1),
            record(2.1, 0, seq=2, fate=PacketOutcome.LOST),
            record(3.1, 13, 0, kind=Kind.UDP),
            record(4.1, 14, 0, kind=Kind.UDP),
        ],
        [
            sighting(1.0, 1, outgoing=True),
            sighting(2.0, 2, outgoing=True),
            sighting(3.0, 0, outgoing=True, kind=Kind.UDP),
        ],
        [sighting(13.0, 0, outgoing=False, kind=Kind.UDP), sighting(14.0, 0, outgoing=False, kind=Kind.UDP)],
    )
    assert found.truth.records["seq"].tolist() == [2]
    assert found.truth.records["fate"].tolist() == [PacketOutcome.LOST]
    assert not len(found.read_late_ms)
