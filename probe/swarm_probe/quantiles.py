"""Compute quantiles of a few measured values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def quantile(ordered: Sequence[int], share: float) -> int:
    """Return the smallest of the ascending, non-empty `ordered` that at least `share` of them do not exceed: always an
    observed value, never one in between (RFC 2330 §11.3)."""
    # the small offset keeps 0.95 · 20 = 19.000000000000004 from selecting the twentieth
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def median(values: Iterable[float]) -> float:
    """Return the median, the mean of the two in the middle for an even number; `statistics` loads fractions and decimal
    for it. Raises ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no median of no values")
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
