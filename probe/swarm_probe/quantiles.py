"""Compute quantiles of a few measured times: always an observed value, never one in between (RFC 2330 §11.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def quantile(ordered: Sequence[int], share: float) -> int:
    """Return the smallest of the ascending, non-empty `ordered` that at least `share` of them do not exceed."""
    # the small offset keeps 0.95 · 20 = 19.000000000000004 from selecting the twentieth
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]
