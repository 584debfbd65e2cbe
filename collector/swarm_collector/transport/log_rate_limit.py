"""Which lines about strangers reach the log: the first ones, then few, with a count of those left out.

Garbage, wrong tokens and sessions that come and go cost whoever sends them nothing, so what they make us write must be
bounded too: a full disk of log lines is a full disk. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from swarm_collector.bucket import Bucket


@dataclass(slots=True)
class LogRateLimiter:
    per_s: float = 0.1
    burst: float = 20.0
    left_out: int = 0  # since the last line
    total: int = 0
    _bucket: Bucket = field(init=False)

    def __post_init__(self) -> None:
        self._bucket = Bucket(self.per_s, self.burst)

    def line(self, text: str, now_ns: int) -> str | None:
        """`text` as it is to be logged, or None: not now."""
        self.total += 1
        if self._bucket.full(now_ns):
            self.left_out += 1
            return None
        self._bucket.wait_s(now_ns)
        return text + self._and_more()

    def rest(self, now_ns: int) -> str | None:
        """What to say of lines left out once it has become quiet."""
        if not self.left_out or self._bucket.full(now_ns):
            return None
        self._bucket.wait_s(now_ns)
        left_out, self.left_out = self.left_out, 0
        return f"{left_out} more sessions ended and were not logged one by one"

    def _and_more(self) -> str:
        left_out, self.left_out = self.left_out, 0
        return f" (and {left_out} more like it were not logged)" if left_out else ""
