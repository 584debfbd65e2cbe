"""Keep the last minutes of a live swarm, so that the user can go back without a database.

Bounded in time and in bytes. When the bytes run out, every second frame is dropped, so that the whole span remains in
larger steps. Consecutive frames share most columns; a shared column is counted once.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any, Final

from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.sources.source import Span

if TYPE_CHECKING:
    import numpy.typing as npt

KEPT_NS: Final = 900 * NS_PER_S
KEPT_BYTES: Final = 4 << 20
EVERY_NS: Final = NS_PER_S
GAP_NS: Final = 15 * NS_PER_S  # without a frame: the connection was lost


class Kept:
    def __init__(self, most_bytes: int = KEPT_BYTES, most_ns: int = KEPT_NS) -> None:
        self._most_bytes = most_bytes
        self._most_ns = most_ns
        self._frames: list[Swarm] = []  # oldest first
        self._gaps: list[tuple[int, int]] = []
        self._arrived_ns = 0  # of the newest frame, kept or not
        self._bytes = 0  # upper limit of what the frames take; counted exactly when it seems too much

    @property
    def span(self) -> Span | None:
        """Return the span that one can go back in; None: fewer than two moments."""
        if len(self._frames) < 2:
            return None
        return Span(self._frames[0].at_ns, self._frames[-1].at_ns, tuple(self._gaps))

    def add(self, swarm: Swarm) -> None:
        if swarm.at_ns < self._arrived_ns:  # another collector's clock: the kept frames are from another time
            self._frames, self._gaps, self._arrived_ns, self._bytes = [], [], 0, 0
        if self._arrived_ns and swarm.at_ns - self._arrived_ns >= GAP_NS:
            self._gaps.append((self._arrived_ns, swarm.at_ns))
        elif self._frames and swarm.at_ns - self._frames[-1].at_ns < EVERY_NS:
            self._arrived_ns = swarm.at_ns
            return
        self._arrived_ns = swarm.at_ns
        own = _bytes_of(swarm, self._frames[-1] if self._frames else None)
        if own > self._most_bytes // 4:  # not even a few frames would fit
            return
        self._frames.append(swarm)
        self._bytes += own
        self._forget(swarm.at_ns - self._most_ns)

    def at(self, at_ns: int, *, forward: bool) -> Swarm | None:
        """Return the frame of that moment: the newest before it or, going forward, the oldest after."""
        if not self._frames:
            return None
        times = [frame.at_ns for frame in self._frames]
        found = bisect.bisect_left(times, at_ns) if forward else bisect.bisect_right(times, at_ns) - 1
        return self._frames[max(0, min(found, len(times) - 1))]

    def between(self, since_ns: int, until_ns: int) -> list[Swarm]:
        return [frame for frame in self._frames if since_ns <= frame.at_ns <= until_ns]

    def _forget(self, before_ns: int) -> None:
        old = sum(frame.at_ns < before_ns for frame in self._frames)
        del self._frames[:old]
        if self._frames:
            self._gaps = [gap for gap in self._gaps if gap[1] > self._frames[0].at_ns]
        while self._bytes > self._most_bytes:
            counted = sum(_bytes_of(b, a) for a, b in zip([None, *self._frames], self._frames, strict=False))
            if counted > self._most_bytes and len(self._frames) > 2:
                self._frames = [*self._frames[:-1:2], self._frames[-1]]
            else:
                self._bytes = counted
                break


def _bytes_of(swarm: Swarm, before: Swarm | None) -> int:
    """Return what this frame takes in addition to the one before it."""
    from swarm_protocol.snapshot.links.compact_links import CompactColumn  # numpy, which the first paint does without

    total = 0
    for columns, old in ((swarm.nodes, before.nodes if before else {}), (swarm.links, before.links if before else {})):
        for name, column in columns.items():
            shared = old.get(name)
            if shared is not column:
                total += column.bytes_beside(shared) if isinstance(column, CompactColumn) else _bytes(column)
    return total


def _bytes(column: npt.NDArray[Any]) -> int:
    """Return the bytes in memory, not of the shape: one value may be broadcast to every pair."""
    return column.nbytes if all(column.strides) else column.itemsize
