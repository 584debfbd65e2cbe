"""Rates that a volunteer is promised, whatever the collector or a stranger asks for. Pure: time comes in."""

from __future__ import annotations

from swarm_protocol.units import NS_PER_S


class Bucket:
    """A token bucket: `per_s` on average, `burst` at once."""

    def __init__(self, per_s: float, burst: float, now_ns: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._at_ns = now_ns

    def take(self, now_ns: int, amount: float = 1.0) -> bool:
        """Whether `amount` may be spent now; if so, it is. A clock that goes back adds nothing."""
        elapsed_ns = max(0, now_ns - self._at_ns)
        self._at_ns = max(self._at_ns, now_ns)
        self._tokens = min(self._burst, self._tokens + elapsed_ns * self._per_s / NS_PER_S)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def take_all(self, now_ns: int, amount: float) -> bool:
        """Whether `amount`, which has been spent already, was within the rate."""
        if self.take(now_ns, amount):
            return True
        self._tokens -= amount
        return False
