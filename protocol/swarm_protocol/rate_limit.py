"""Implement the token bucket behind every rate limit of collector and probe. Pure: the time is passed in."""

from __future__ import annotations

import msgspec

from swarm_protocol.units import NS_PER_S


class TokenBucket(msgspec.Struct):
    """Allows `per_s` on average, `burst` at once. A clock that goes back adds nothing."""

    per_s: float
    burst: float
    _used: float = 0.0  # of the burst; above it: spent in advance
    _at_ns: int = 0

    def allows(self, now_ns: int, amount: float = 1.0) -> bool:
        """Return whether `amount` is within the rate now. Takes nothing."""
        return self._used_at(now_ns) + amount <= self.burst

    def take(self, now_ns: int, amount: float = 1.0) -> bool:
        """Take `amount` if it is within the rate; return whether it is."""
        self._advance(now_ns)
        if self._used + amount > self.burst:
            return False
        self._used += amount
        return True

    def wait_s(self, now_ns: int, amount: float = 1.0) -> float:
        """Take `amount` in any case; return the seconds to wait until that is within the rate (0: it is)."""
        passed_ns = now_ns - self._at_ns  # as `_advance`, without its calls: each message of a probe is counted thrice
        used = self._used
        if passed_ns > 0:
            used -= passed_ns * self.per_s / NS_PER_S
            self._at_ns = now_ns
        self._used = used = (used if used > 0.0 else 0.0) + amount
        return (used - self.burst) / self.per_s if used > self.burst else 0.0

    def _used_at(self, now_ns: int) -> float:
        passed_ns = now_ns - self._at_ns
        used = self._used if passed_ns <= 0 else self._used - passed_ns * self.per_s / NS_PER_S
        return used if used > 0.0 else 0.0

    def _advance(self, now_ns: int) -> None:
        self._used = self._used_at(now_ns)
        if now_ns > self._at_ns:
            self._at_ns = now_ns
