"""Compare each time stamp of a round trip with the true moment at which the packet left or arrived.

T1 and T3 are late or early by what lies between them and the packet's departure, T2 and T4 by what lies between its
arrival and them. What the four add to a round trip is exactly its error. With the router's own records as the truth
they hold its lateness too: it is a process, and stamps a packet when it has been woken and has read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.support.processes.recording_probe import FILE
from swarm_lab.emulation.truth import Kind, PacketOutcome, Records, Truth
from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.units import NS_PER_MS

STAMPS: Final = ("T1", "T2", "T3", "T4")


def read(folder: Path) -> npt.NDArray[np.int64]:
    """Return what one probe recorded, shape (round trips, 6): session, sequence, T1 to T4 in ns."""
    path = folder / FILE
    return np.loadtxt(path, dtype=np.int64, ndmin=2) if path.exists() else np.empty((0, 6), dtype=np.int64)


def errors_ms(recorded: npt.NDArray[np.int64], there: Records, back: Records, truth: Truth) -> Floats:
    """Return what each stamp adds to each round trip, shape (round trips, 4), in ms; of the packets of one pair."""
    requests, replies = _by_packet(there, Kind.STAMP_REQUEST), _by_packet(back, Kind.STAMP_REPLY)
    found = []
    for ssid, seq, t1, t2, t3, t4 in recorded.tolist():
        request, reply = requests.get((ssid, seq)), replies.get((ssid, seq))
        if request is not None and reply is not None:
            offset = truth.wall_minus_mono_ns
            found.append((request[0] - t1, t2 - offset - request[1], reply[0] - (t3 - offset), t4 - reply[1]))
    errors: Floats = np.array(found, dtype=float).reshape(-1, len(STAMPS)) / NS_PER_MS
    return errors


def _by_packet(records: Records, kind: Kind) -> dict[tuple[int, int], tuple[int, int]]:
    chosen = records[(records["kind"] == kind) & (records["fate"] == PacketOutcome.DELIVERED)]
    columns = (chosen[name].tolist() for name in ("ssid", "seq", "in_ns", "out_ns"))
    return {(ssid, seq): (in_ns, out_ns) for ssid, seq, in_ns, out_ns in zip(*columns, strict=True)}
