"""Record what happened to each packet in the router, and read these records for `verify`.

One fixed-size record a packet in a plain file, so that a crash loses at most the last buffer. Times are the
router's monotonic clock; the header says how to turn them into wall clock.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from swarm_lab.emulation.packets import TCP, UDP, protocol_of, stamp_tag
from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.units import NS_PER_MS

MAGIC: Final = b"swarmlab truth 1"
_HEADER: Final = struct.Struct("<16sq")  # magic, wall clock − monotonic clock in ns
_RECORD: Final = struct.Struct("<qqqIHHHHBB")
RECORD_DTYPE: Final = np.dtype(
    [
        ("in_ns", "<i8"),  # read from the sender's interface
        ("intended_ns", "<i8"),  # when it was due at the receiver's; 0 if it never was
        ("out_ns", "<i8"),  # when it was really written there
        ("seq", "<u4"),  # of the STAMP request, in the reply too
        ("ssid", "<u2"),
        ("src", "<u2"),
        ("dst", "<u2"),
        ("size", "<u2"),  # IP bytes
        ("fate", "u1"),
        ("kind", "u1"),
    ]
)
assert RECORD_DTYPE.itemsize == _RECORD.size
BUFFER_BYTES: Final = 1600 * _RECORD.size  # 64 kB: one short write, no visible pause

Records = npt.NDArray[np.void]


class PacketOutcome(enum.IntEnum):
    DELIVERED = 0
    LOST = 1  # by the loss law
    UP_QUEUE = 2  # the sender's modem was full
    DOWN_QUEUE = 3
    FILTERED = 4  # a NAT or a UDP block
    CUT = 5  # a partition, or the receiver is gone


class Kind(enum.IntEnum):
    OTHER = 0
    TCP = 1
    UDP = 2
    STAMP_REQUEST = 3
    STAMP_REPLY = 4


def classify(packet: bytes) -> tuple[Kind, int, int]:
    """Return (kind, ssid, seq) of an IPv4 packet; zeros where it is no STAMP packet."""
    protocol = protocol_of(packet)
    if protocol == TCP:
        return Kind.TCP, 0, 0
    if protocol != UDP:
        return Kind.OTHER, 0, 0
    tag = stamp_tag(packet)
    if tag is None:
        return Kind.UDP, 0, 0
    return Kind.STAMP_REPLY if tag.is_reply else Kind.STAMP_REQUEST, tag.ssid, tag.seq


class TruthWriter:
    """Appends records to `file`; the caller flushes when nothing is due."""

    def __init__(self, file: BinaryIO, wall_minus_mono_ns: int) -> None:
        self._file = file
        self._buffer = bytearray()
        file.write(_HEADER.pack(MAGIC, wall_minus_mono_ns))
        file.flush()

    def add(
        self, packet: bytes, src: int, dst: int, in_ns: int, fate: PacketOutcome, intended_ns: int = 0, out_ns: int = 0
    ) -> None:
        kind, ssid, seq = classify(packet)
        self._buffer += _RECORD.pack(in_ns, intended_ns, out_ns, seq, ssid, src, dst, len(packet), fate, kind)

    @property
    def wants_flush(self) -> bool:
        return len(self._buffer) >= BUFFER_BYTES

    def flush(self) -> None:
        self._file.write(self._buffer)
        self._file.flush()
        self._buffer.clear()


class TruthError(Exception):
    """The file is not a truth file; one line."""


@dataclass(frozen=True, slots=True)
class Truth:
    """All records of one run, in the order in which their fate was known."""

    records: Records
    wall_minus_mono_ns: int

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Read a file. Raises TruthError. A cut last record is left out."""
        data = path.read_bytes()
        if len(data) < _HEADER.size or data[:16] != MAGIC:
            raise TruthError(f"{path} is no record of a lab run")
        _, offset = _HEADER.unpack_from(data)
        whole = (len(data) - _HEADER.size) // _RECORD.size
        return cls(np.frombuffer(data, RECORD_DTYPE, whole, _HEADER.size), offset)

    def between(self, since_wall_ns: int, until_wall_ns: int) -> Truth:
        entered = self.records["in_ns"] + self.wall_minus_mono_ns
        return Truth(self.records[(entered >= since_wall_ns) & (entered < until_wall_ns)], self.wall_minus_mono_ns)

    def pair(self, src: int, dst: int) -> Records:
        chosen: Records = self.records[(self.records["src"] == src) & (self.records["dst"] == dst)]
        return chosen

    def emulation_error_ms(self) -> Floats:
        """Return actual − intended delivery of every delivered packet: the emulator's own error, shape (packets,)."""
        done = self.records[self.records["fate"] == PacketOutcome.DELIVERED]
        error: Floats = (done["out_ns"] - done["intended_ns"]) / NS_PER_MS
        return error


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """STAMP round trips a → b → a: `rtt_ms` is the sum of both one-way delays, as perfect clocks would report it."""

    rtt_ms: Floats
    sent: int
    lost_out: int
    lost_back: int


def round_trips(there: Records, back: Records) -> RoundTrips:
    """Pair requests in `there` with replies in `back` by session and sequence.

    A request whose reply is in neither (still in flight at the window's end) counts as sent only.
    """
    requests = there[there["kind"] == Kind.STAMP_REQUEST]
    replies = back[back["kind"] == Kind.STAMP_REPLY]
    lost_out = int(np.count_nonzero(requests["fate"] != PacketOutcome.DELIVERED))
    arrived = requests[requests["fate"] == PacketOutcome.DELIVERED]
    returned = replies[replies["fate"] == PacketOutcome.DELIVERED]
    key_out = _keys(arrived)
    key_back = _keys(returned)
    _, at_out, at_back = np.intersect1d(key_out, key_back, return_indices=True)
    first, second = arrived[at_out], returned[at_back]
    rtt = ((first["out_ns"] - first["in_ns"]) + (second["out_ns"] - second["in_ns"])) / NS_PER_MS
    failed = _keys(replies[replies["fate"] != PacketOutcome.DELIVERED])
    lost_back = int(np.count_nonzero(np.isin(failed, key_out)))
    return RoundTrips(rtt_ms=rtt, sent=len(requests), lost_out=lost_out, lost_back=lost_back)


def _keys(records: Records) -> npt.NDArray[np.uint64]:
    keys: npt.NDArray[np.uint64] = records["ssid"].astype(np.uint64) << np.uint64(32) | records["seq"].astype(np.uint64)
    return keys
