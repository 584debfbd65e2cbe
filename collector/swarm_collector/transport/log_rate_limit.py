"""Limit log lines by cause: the first ones pass, then a few, then an occasional summary that counts the rest.

Garbage, wrong tokens and reconnections cost their sender nothing, so the lines that they cause must be limited: log
lines can fill a disk. One cause produces fewer than a thousand lines a day in any case. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_S

LINES_PER_S: Final = 1 / 150  # 576 a day
LINE_BURST: Final = 50.0
FIRST_SUMMARY_NS: Final = 60 * NS_PER_S  # each next one of a lasting cause comes after twice the time
LAST_SUMMARY_NS: Final = 900 * NS_PER_S
MAX_CAUSES: Final = 256


@dataclass(frozen=True, slots=True)
class Summary:
    cause: str
    like: str  # the first line that was left out
    count: int
    over_ns: int

    @property
    def text(self) -> str:
        minutes = round(self.over_ns / (60 * NS_PER_S))
        span = "minute" if minutes <= 1 else f"{minutes} minutes"
        return f"… and {self.count} more in the last {span} like: {self.like}"


@dataclass(slots=True)
class _Cause:
    bucket: TokenBucket
    left_out: int = 0
    like: str = ""
    since_ns: int = 0  # when the first of those was left out
    every_ns: int = FIRST_SUMMARY_NS
    quiet_from_ns: int = 0  # nothing left out since the last summary


@dataclass(slots=True)
class LogRateLimiter:
    """Decides for each line by its cause: a name that does not grow with what strangers send."""

    per_s: float = LINES_PER_S
    burst: float = LINE_BURST
    most_causes: int = MAX_CAUSES
    total: int = 0
    _causes: dict[str, _Cause] = field(default_factory=dict)

    def passes(self, cause: str, now_ns: int) -> bool:
        """Return whether this line is to be logged now; if not, `leave_out` it."""
        self.total += 1
        known = self._of(cause)
        if known.left_out or not known.bucket.allows(now_ns):  # no single lines between two summaries
            return False
        known.bucket.wait_s(now_ns)
        return True

    def leave_out(self, cause: str, now_ns: int, line: str = "") -> None:
        known = self._of(cause)
        if not known.left_out:
            known.since_ns, known.like = now_ns, line
        known.left_out += 1

    def left_out(self, cause: str) -> int:
        """Return how many were left out since the last summary."""
        return self._causes[cause].left_out if cause in self._causes else 0

    def due(self, now_ns: int, *, all_of_them: bool = False) -> list[Summary]:
        """Return the summaries that are to be logged now; at the end, all."""
        found = []
        for name, cause in self._causes.items():
            if cause.left_out and (all_of_them or now_ns - cause.since_ns >= cause.every_ns):
                found.append(Summary(name, cause.like, cause.left_out, now_ns - cause.since_ns))
                cause.left_out = 0
                cause.quiet_from_ns = now_ns
                cause.every_ns = min(2 * cause.every_ns, LAST_SUMMARY_NS)
            elif not cause.left_out and now_ns - cause.quiet_from_ns > LAST_SUMMARY_NS:
                cause.every_ns = FIRST_SUMMARY_NS
        return found

    def _of(self, cause: str) -> _Cause:
        known = self._causes.get(cause)
        if known is None:
            if len(self._causes) >= self.most_causes:  # a programming error: a cause must be a name
                cause = "others"
                known = self._causes.get(cause)
            if known is None:
                known = self._causes[cause] = _Cause(TokenBucket(self.per_s, self.burst))
        return known
