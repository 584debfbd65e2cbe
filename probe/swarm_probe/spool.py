"""Keep samples on disk until they are committed: batches sent in order, dropped once acknowledged.

A segment is a file of records (length, CRC-32, the encoded `Batch`). Its name carries the epoch and the first sequence
number, so that no flipped byte inside a file can make a number be used twice. Opening never appends to an old segment:
it starts a new one whose numbers lie a whole reserve above, because records that a power cut lost may have been sent
and committed already. The last segment is never removed; without any segment a new epoch begins.

A process killed at any moment loses at most the record being written; only a power cut can lose more (data is synced
when a segment is full, not each second: the disk belongs to somebody else). Every loss is reported: as an event in the
next batch, and as one line for each change of state. No clock and no sockets here.

SpoolError    the folder cannot be used at all (exit 2)
"""

from __future__ import annotations

import errno
import os
import re
import struct
from binascii import crc32
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from swarm_protocol.messages.codec import MAX_MESSAGE_BYTES, encode
from swarm_protocol.messages.probe_messages import Batch
from swarm_protocol.messages.samples import EventSample, ProbeSample

MAX_BYTES: Final = 64 << 20  # days of an unreachable collector, and little on any disk
SEGMENT_BYTES: Final = 256 << 10  # the most that one damaged byte can cost
MEMORY_BYTES: Final = 1 << 20  # kept in memory while the disk accepts nothing
MAX_EPOCH: Final = 2**62  # of WallNs
RESERVE: Final = 1 << 28  # numbers of one segment; years of batches, and leaves millions of restarts

_MAGIC: Final = b"SWSPOOL1"
_HEADER: Final = struct.Struct("<8sQQI")  # magic, epoch, first seq, CRC of the three
_RECORD: Final = struct.Struct("<II")  # payload length, CRC of sequence number and payload
_SEQ: Final = struct.Struct("<Q")
_NAME: Final = re.compile(r"(\d{20})-(\d{16})\.seg")
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


class SpoolError(Exception):
    """The spool folder cannot be used; the text says what to do."""


class _Segment(msgspec.Struct):
    path: Path
    first_seq: int
    count: int = 0  # numbers are contiguous from first_seq
    size: int = _HEADER.size  # bytes that hold good records

    @property
    def last_seq(self) -> int:
        return self.first_seq + self.count - 1


class _Cursor(msgspec.Struct):
    """The read position: the record numbered `seq` begins at `offset`."""

    segment: _Segment
    seq: int
    offset: int


class Spool:
    """`append` writes samples to disk, `next_after` returns them in order, `committed` drops them."""

    def __init__(
        self,
        folder: Path,
        *,
        now_ns: Callable[[], int],
        say: Callable[[str], None],
        max_bytes: int = MAX_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Open what is there or begin a new epoch. Raises SpoolError."""
        self._folder = folder
        self._now_ns = now_ns
        self._say = say
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._memory_bytes = memory_bytes
        # why → batches lost since the start. Totals, because a batch that reports a loss may itself be dropped later
        self._lost: Counter[str] = Counter()
        self._unreported: set[str] = set()
        self._damaged_bytes = 0  # found at opening; how many batches they were cannot be known
        self._memory: deque[tuple[int, bytes]] = deque()  # appended, not yet on disk
        self._memory_size = 0
        self._latest: tuple[int, bytes] | None = None  # what was appended last, until it is committed: read most often
        self._trouble: str | None = None
        self._fd: int | None = None
        self._cursor: _Cursor | None = None
        self._committed = 0
        self._segments: list[_Segment] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = filter(None, map(_NAME.fullmatch, os.listdir(folder)))
            names = sorted((m for m in found if int(m[1]) <= MAX_EPOCH), key=lambda match: match[0])
        except OSError as error:
            raise SpoolError(f"cannot use {folder} ({error.strerror}); give --state another folder") from error
        self.epoch = max((int(match[1]) for match in names), default=now_ns())
        for match in names:
            self._adopt(folder / match[0], int(match[1]), int(match[2]))
        self._next_seq = self._segments[-1].first_seq + RESERVE if self._segments else 1
        self._open_first()

    # ------------------------------------------------------------ what others call

    def append(self, samples: Sequence[ProbeSample]) -> None:
        """Append a batch. Never raises for a failing disk: the batch waits in memory, and any loss is counted."""
        gaps = tuple(EventSample(at_ns=self._now_ns(), kind="spool_gap", detail=line) for line in self._gap_lines())
        seq = self._next_seq
        payload = encode(Batch(epoch=self.epoch, seq=seq, samples=(*gaps, *samples)))
        self._next_seq += 1
        self._latest = seq, payload
        self._memory.append(self._latest)
        self._memory_size += len(payload)
        self._drain()

    def next_after(self, seq: int) -> tuple[int, bytes] | None:
        """Return the first waiting batch numbered above `seq`, encoded; None: there is none yet."""
        if self._latest is not None and self._latest[0] == seq + 1:
            return self._latest
        while (segment := next((s for s in self._segments if s.count and s.last_seq > seq), None)) is not None:
            record = self._read(segment, max(seq + 1, segment.first_seq))
            if record is not None:
                return record
        return next((record for record in self._memory if record[0] > seq), None)

    def committed(self, epoch: int, seq: int) -> None:
        """Drop everything of `epoch` up to `seq`, which is stored elsewhere."""
        if epoch != self.epoch or seq <= self._committed:
            return
        if seq >= self._next_seq:  # this folder is an old copy: its next numbers would count as repeats
            if self.waiting:
                self._lose(
                    self.waiting, "the collector knows later numbers of this spool; was it restored from a copy?"
                )
            self._next_seq = seq + 1
        self._committed = seq
        if self._latest is not None and self._latest[0] <= seq:
            self._latest = None
        for segment in [s for s in self._segments[:-1] if s.last_seq <= seq]:
            self._remove(segment)
        while self._memory and self._memory[0][0] <= seq:
            self._memory_size -= len(self._memory.popleft()[1])

    @property
    def committed_seq(self) -> int:
        return self._committed

    @property
    def waiting(self) -> int:
        """Return the number of batches not known to be committed."""
        on_disk = (s.last_seq - max(self._committed, s.first_seq - 1) for s in self._segments)
        return sum(max(0, n) for n in on_disk) + len(self._memory)

    @property
    def size_bytes(self) -> int:
        return sum(s.size for s in self._segments) + self._memory_size

    @property
    def trouble(self) -> str | None:
        """Return why nothing is written now; None: no trouble."""
        return self._trouble

    def close(self) -> None:
        """Write what memory still holds; return how much could not be written."""
        self._drain()
        if self._memory:
            self._say(
                f"{len(self._memory)} batches could not be written to {self._folder} ({self._trouble}) and are lost"
            )
        if self._fd is not None:
            with suppress(OSError):  # a failing disk has been reported, or will be at the next start
                os.fsync(self._fd)
            os.close(self._fd)
            self._fd = None

    # ------------------------------------------------------------ opening

    def _adopt(self, path: Path, epoch: int, first_seq: int) -> None:
        """Take over one file from an earlier run, cut after its last good record."""
        segment = _Segment(path, first_seq)
        try:
            data = path.read_bytes()
        except OSError as error:
            self._lose(1, f"a file of the spool cannot be read ({error.strerror})")
            data = b""
        if epoch != self.epoch:
            self._lose(1, "the spool held an older epoch")
            self._unlink(path)
            return
        good = 0
        if data[: _HEADER.size] == _header(epoch, first_seq):
            segment.count, segment.size = _scan(BytesIO(data), first_seq)
            good = segment.size
        if len(data) > good:
            self._damaged_bytes += len(data) - good
            with suppress(OSError):  # only avoids reporting it again; reading stops there anyway
                os.truncate(path, good)
        self._segments.append(segment)

    def _open_first(self) -> None:
        """Open the segment of this run. A full disk gets room by dropping our own oldest data."""
        while True:
            try:
                self._begin_segment()
                break
            except OSError as error:
                if error.errno not in _NO_ROOM or len(self._segments) < 2:
                    raise SpoolError(
                        f"cannot write to {self._folder} ({error.strerror}); free space or give --state another folder"
                    ) from error
                self._drop_oldest("the disk was full at the start")
        for segment in [s for s in self._segments[:-1] if not s.count]:
            self._remove(segment)

    # ------------------------------------------------------------ writing

    def _begin_segment(self) -> None:
        """Begin a segment. Raises OSError if the disk does not accept it."""
        first_seq = self._memory[0][0] if self._memory else self._next_seq
        path = self._folder / f"{self.epoch:020d}-{first_seq:016d}.seg"
        self._folder.mkdir(parents=True, exist_ok=True)  # it may have been removed while running
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, _header(self.epoch, first_seq))
            os.fsync(fd)
            _sync_folder(self._folder)
        except OSError:
            os.close(fd)  # the file stays: its name alone keeps these numbers from being used twice
            raise
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
        self._segments = [s for s in self._segments if s.path != path]  # an empty one of the same name was replaced
        self._segments.append(_Segment(path, first_seq))

    def _drain(self) -> None:
        """Move batches from memory to disk, in order, as far as the disk accepts them."""
        try:
            while self._memory:
                self._write(*self._memory[0])
                self._memory_size -= len(self._memory.popleft()[1])
        except OSError as error:
            reason = error.strerror or type(error).__name__
            if self._trouble is None:
                self._say(
                    f"cannot write to {self._folder} ({reason}); measuring continues, what does not fit memory is lost"
                )
            self._trouble = reason
            while self._memory_size > self._memory_bytes and len(self._memory) > 1:
                self._memory_size -= len(self._memory.popleft()[1])
                self._lose(1, f"the disk accepted nothing ({reason})")
            return
        if self._trouble is not None:
            self._say(f"writing to {self._folder} again")
            self._trouble = None
        while sum(s.size for s in self._segments) > self._max_bytes and len(self._segments) > 1:
            self._drop_oldest("the collector was unreachable until the spool was full")

    def _write(self, seq: int, payload: bytes) -> None:
        segment = self._segments[-1]
        if self._fd is None or seq != segment.last_seq + 1 or segment.size >= self._segment_bytes:
            if self._fd is not None:
                os.fsync(self._fd)
            self._begin_segment()
            segment = self._segments[-1]
        assert self._fd is not None
        record = _RECORD.pack(len(payload), _crc(seq, payload)) + payload
        try:
            _write_all(self._fd, record)
        except OSError:
            # it may hold half a record; nothing may follow it
            try:
                os.ftruncate(self._fd, segment.size)
            except OSError:
                os.close(self._fd)
                self._fd = None
            raise
        segment.count += 1
        segment.size += len(record)

    def _drop_oldest(self, why: str) -> None:
        segment = self._segments[0]
        lost = segment.last_seq - max(self._committed, segment.first_seq - 1)
        if lost > 0:
            if not self._lost[why]:
                self._say(f"the oldest batches are dropped: {why}")
            self._lose(lost, why)
        self._remove(segment)

    def _remove(self, segment: _Segment) -> None:
        self._segments.remove(segment)
        self._unlink(segment.path)

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._say(
                f"cannot remove {path} ({error.strerror}); it is sent again after the next start, which does no harm"
            )

    # ------------------------------------------------------------ reading

    def _read(self, segment: _Segment, seq: int) -> tuple[int, bytes] | None:
        """Return record `seq` of `segment`; None: it was damaged since, and the segment now ends before it."""
        cursor = self._cursor
        if cursor is None or cursor.segment is not segment or cursor.seq > seq:
            cursor = self._cursor = _Cursor(segment, segment.first_seq, _HEADER.size)
        try:
            with segment.path.open("rb") as file:
                while (payload := _payload_at(file, cursor.offset, cursor.seq)) is not None:
                    cursor.seq += 1
                    cursor.offset += _RECORD.size + len(payload)
                    if cursor.seq > seq:
                        return seq, payload
        except OSError as error:
            self._say(f"cannot read {segment.path} ({error.strerror}); what it held is lost")
        self._lose(segment.last_seq - cursor.seq + 1, "data was corrupted on disk")
        self._latest = None  # counted as lost with the others
        segment.count = cursor.seq - segment.first_seq
        segment.size = cursor.offset
        if segment is self._segments[-1] and self._fd is not None:  # nothing may follow the bad bytes
            os.close(self._fd)
            self._fd = None
        return None

    def _lose(self, batches: int, why: str) -> None:
        self._lost[why] += batches
        self._unreported.add(why)

    def _gap_lines(self) -> list[str]:
        if self._trouble is not None:  # reported once the disk accepts it
            return []
        lines = [f"{self._lost[why]} batches lost since the probe started: {why}" for why in sorted(self._unreported)]
        if self._damaged_bytes:
            lines.append(f"{self._damaged_bytes} bytes of the spool were torn or damaged; what they held is lost")
        self._unreported.clear()
        self._damaged_bytes = 0
        return lines


def _header(epoch: int, first_seq: int) -> bytes:
    body = struct.pack("<8sQQ", _MAGIC, epoch, first_seq)
    return body + struct.pack("<I", crc32(body))


def _crc(seq: int, payload: bytes) -> int:
    return crc32(payload, crc32(_SEQ.pack(seq)))


def _payload_at(file: BinaryIO, offset: int, seq: int) -> bytes | None:
    """Return the record at `offset` if it is whole and numbered `seq`."""
    file.seek(offset)
    head = file.read(_RECORD.size)
    if len(head) < _RECORD.size:
        return None
    length, crc = _RECORD.unpack(head)
    if not 0 < length <= MAX_MESSAGE_BYTES:
        return None
    payload = file.read(length)
    return payload if len(payload) == length and _crc(seq, payload) == crc else None


def _scan(file: BinaryIO, first_seq: int) -> tuple[int, int]:
    """Return how many good records follow the header without a break, and where they end."""
    count, offset = 0, _HEADER.size
    while (payload := _payload_at(file, offset, first_seq + count)) is not None:
        count += 1
        offset += _RECORD.size + len(payload)
    return count, offset


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:  # a disk about to be full accepts a part first, and raises at the next write
        rest = rest[os.write(fd, rest) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
