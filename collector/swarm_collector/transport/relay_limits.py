"""Limit the traffic that this collector relays between members that no other path connects. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from swarm_protocol.rate_limit import TokenBucket

BYTES_PER_S: Final = 1_000_000.0  # in total: a small uplink carries it in addition to everything else
BURST_BYTES: Final = 4_000_000.0
MEMBER_BYTES_PER_S: Final = 20_000.0  # a round of hops a minute is 4,000
MEMBER_BURST_BYTES: Final = 1_000_000.0
OVERHEAD_BYTES: Final = 64  # of a message in addition to its data


@dataclass(slots=True)
class RelayLimits:
    refused: int = 0  # messages
    _all: TokenBucket = field(default_factory=lambda: TokenBucket(BYTES_PER_S, BURST_BYTES))
    _members: dict[str, TokenBucket] = field(default_factory=dict)

    def may_pass(self, node_id: str, size_bytes: int, now_ns: int) -> bool:
        """Return whether a message of `node_id` with so much data may be relayed now."""
        amount = size_bytes + OVERHEAD_BYTES
        own = self._members.setdefault(node_id, TokenBucket(MEMBER_BYTES_PER_S, MEMBER_BURST_BYTES))
        if not own.allows(now_ns, amount) or not self._all.allows(now_ns, amount):
            self.refused += 1
            return False
        own.wait_s(now_ns, amount)
        self._all.wait_s(now_ns, amount)
        return True

    def forget(self, node_id: str) -> None:
        self._members.pop(node_id, None)
