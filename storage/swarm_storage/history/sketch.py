"""Summarise the values of one figure in a few mergeable bytes: a histogram with fixed logarithmic buckets.

The buckets are those of DDSketch (Masson, Rim, Lee, VLDB 2019): bucket i holds (g^(i-1), g^i], so a quantile is wrong
by at most `RELATIVE_ERROR` of its value, whatever was merged in whichever order. Fixed buckets make merging an
addition; nothing is ever collapsed, since the figures here (milliseconds, Mbit/s, bytes, per cent) span some two
thousand buckets at the very most. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

RELATIVE_ERROR: Final = 0.01
_GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA: Final = math.log(_GAMMA)
_MIN_VALUE: Final = 1e-6  # of any unit used here: a nanosecond in ms; smaller values count as 0
_ZERO: Final = -(1 << 15)  # the bucket of 0; below every other
_BELOW_ZERO: Final = 1 << 14  # a temperature below 0 °C: bucket of its size, mirrored

Counts = dict[int, int]  # bucket → how many


def bucket_of(value: float) -> int:
    size = abs(value)
    if size < _MIN_VALUE:
        return _ZERO
    index = math.ceil(math.log(size) / _LOG_GAMMA)
    return index if value > 0 else -index - _BELOW_ZERO


def value_of(bucket: int) -> float:
    """Return the middle of a bucket, as far from both ends as any value can be."""
    if bucket == _ZERO:
        return 0.0
    if bucket < -_BELOW_ZERO // 2:
        return -value_of(-bucket - _BELOW_ZERO)
    return float(2.0 * _GAMMA**bucket / (_GAMMA + 1.0))


def counted(values: Iterable[float]) -> Counts:
    counts: Counts = {}
    for value in values:
        bucket = bucket_of(value)
        counts[bucket] = counts.get(bucket, 0) + 1
    return counts


def add(into: Counts, more: Mapping[int, int]) -> None:
    for bucket, count in more.items():
        into[bucket] = into.get(bucket, 0) + count


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the value that `share` of all lie at or below; of an even number's median the lower one. None: no
    values."""
    total = sum(counts.values())
    if not total:
        return None
    ordered = sorted(counts, key=value_of)
    rank = max(1, math.ceil(share * total))
    for bucket in ordered:
        rank -= counts[bucket]
        if rank <= 0:
            return value_of(bucket)
    return value_of(ordered[-1])


def encode(counts: Mapping[int, int]) -> bytes:
    """Encode as varints: for each bucket, in order, the distance from the previous one (the first: zigzag) and the
    count."""
    out = bytearray()
    before: int | None = None
    for bucket in sorted(counts):
        _put(out, _zigzag(bucket) if before is None else bucket - before)
        _put(out, counts[bucket])
        before = bucket
    return bytes(out)


def decode(data: bytes) -> Counts:
    """Decode. Raises ValueError for bytes that `encode` does not make."""
    numbers: list[int] = []
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(number)
            number = shift = 0
        elif shift > 63:
            raise ValueError("a number of a sketch is too long")
    if shift or len(numbers) % 2:
        raise ValueError("a sketch is cut")
    counts: Counts = {}
    bucket: int | None = None
    for distance, count in zip(numbers[::2], numbers[1::2], strict=True):
        if count == 0 or (bucket is not None and distance == 0):
            raise ValueError("a sketch with an empty or a repeated bucket")
        bucket = _unzigzag(distance) if bucket is None else bucket + distance
        counts[bucket] = count
    return counts


def _put(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _unzigzag(number: int) -> int:
    return number >> 1 if not number & 1 else -(number >> 1) - 1
