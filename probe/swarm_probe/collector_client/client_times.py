"""Define the timeouts of the connection to the collector, and the backoff between attempts."""

from __future__ import annotations

import random

import msgspec


class ClientTimes(msgspec.Struct, frozen=True):
    """Timeouts in seconds: what each bounds, and why."""

    open_s: float = 10.0  # connecting and the answer to Hello: a host may drop packets
    ping_s: float = 20.0  # between pings: keeps NATs open, and detects a connection that died silently
    ping_wait_s: float = 20.0  # for the pong: then the connection is half open
    ack_wait_s: float = 90.0  # for an acknowledgement: a collector that answers pings but stores nothing
    leave_s: float = 2.0  # for the goodbye: stopping a probe must be quick
    retry_base_s: float = 1.0
    retry_cap_s: float = 60.0
    steady_s: float = 15.0  # joined this long, the next failure starts from the shortest wait again


class Backoff:
    """Exponential backoff with full jitter: a thousand probes do not reconnect to a restarted collector at once."""

    def __init__(self, base_s: float, cap_s: float, rng: random.Random) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._rng = rng
        self._tries = 0

    def next_s(self, at_least_s: float = 0.0) -> float:
        ceiling = min(self._cap_s, self._base_s * 2 ** min(self._tries, 32))
        self._tries += 1
        return at_least_s + self._rng.uniform(0.0, ceiling)

    def reset(self) -> None:
        self._tries = 0
