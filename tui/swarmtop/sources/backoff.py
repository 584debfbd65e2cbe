"""Decide when to reconnect to a collector. No socket and no clock: `live` owns those."""

from __future__ import annotations

import random
from typing import Final

# The first retry comes soon, since most losses are a restart; the cap keeps a dead collector's viewers cheap.
RETRY_BASE_S: Final = 0.5
RETRY_CAP_S: Final = 15.0


class Backoff:
    """Exponential backoff with full jitter, so that the viewers of a restarted collector do not return at once."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._attempt = 0

    def delay_s(self) -> float:
        ceiling = min(RETRY_CAP_S, RETRY_BASE_S * 2.0 ** min(self._attempt, 16))
        self._attempt += 1
        return self._rng.uniform(0.0, ceiling)

    def reset(self) -> None:
        self._attempt = 0
