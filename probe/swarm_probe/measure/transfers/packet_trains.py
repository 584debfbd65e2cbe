"""Estimate a bottleneck's rate from trains of packets that arrived over a stream. Pure.

A train that was sent faster than the path carries arrives at the path's own rate. Whatever else happens to a packet on
the way makes it later: jitter, a burst that waits behind its slowest packet, bytes that wait for one that was lost. So
the times lie above the line of the path's rate and touch it where nothing happened, and its slope is that of their
lower convex hull, as in clock skew (Moon, Skelly, Towsley: "Estimation and removal of clock skew from network delay
measurements", 1999). First to last packet would take over the whole delay of both: over 320 KiB at 100 Mbit/s with 1 ms
of jitter it is 7 % off at one standard deviation, the hull 0.3 %.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

TRAIN_GAP_NS: Final = 4_000_000  # silence that ends a train: far above what scheduling adds to kernel stamps
TRAIN_BYTES: Final = 160 << 10  # smaller ones show what the sender's and the receiver's machine do between packets
TRAIN_HEAD: Final = 0.2  # share left out: the first packets do not wait
MIN_NS: Final = 4_800_000  # on the line: what was held back arrives in no time, and shows no rate
COMPARED: Final = 3  # largest trains

Train = tuple[int, int]  # bytes and ns between two packets that both arrived without additional delay


def largest_pair(at_ns: Sequence[int], totals: Sequence[int]) -> tuple[Train, Train]:
    """Return the largest train, and of the next ones that which agrees with it best; zeros if there is none.

    `totals`: bytes that had arrived at `at_ns`, both ascending. A train during which the sender itself paused is slow.
    """
    if not at_ns:
        return (0, 0), (0, 0)
    starts = [0, *(i for i in range(1, len(at_ns)) if at_ns[i] - at_ns[i - 1] >= TRAIN_GAP_NS)]
    found: list[tuple[int, Train]] = []
    for begin, end in zip(starts, [*starts[1:], len(at_ns)], strict=True):
        carried = totals[end - 1] - (totals[begin - 1] if begin else 0)
        if carried < TRAIN_BYTES:
            continue
        head = bisect_left(totals, totals[end - 1] - (1 - TRAIN_HEAD) * carried)
        train = _undelayed(zip(totals[head:end], at_ns[head:end], strict=True))
        if train[1] >= MIN_NS:
            found.append((carried, train))
    if not found:
        return (0, 0), (0, 0)
    largest, *others = (train for _, train in sorted(found, reverse=True)[:COMPARED])
    rate = largest[0] / largest[1]
    return largest, min(others, key=lambda train: abs(train[0] / train[1] - rate), default=(0, 0))


def _undelayed(points: Iterable[tuple[int, int]]) -> Train:
    """Return the edge of the lower convex hull over the middle byte, as bytes and ns; zeros if there is none."""
    hull: list[tuple[int, int]] = []
    for size, ns in points:
        while len(hull) > 1 and _turns_down(hull[-2], hull[-1], (size, ns)):
            hull.pop()
        hull.append((size, ns))
    if len(hull) < 2:
        return 0, 0
    middle = (hull[0][0] + hull[-1][0]) / 2
    right = bisect_left(hull, middle, lo=1, hi=len(hull) - 1, key=lambda point: point[0])
    return hull[right][0] - hull[right - 1][0], hull[right][1] - hull[right - 1][1]


def _turns_down(first: tuple[int, int], second: tuple[int, int], third: tuple[int, int]) -> bool:
    """Return whether `second` lies on or above the line from `first` to `third`."""
    (x1, y1), (x2, y2), (x3, y3) = first, second, third
    return (x2 - x1) * (y3 - y1) <= (y2 - y1) * (x3 - x1)
