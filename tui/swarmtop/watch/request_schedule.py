"""Decide when to send the next request to a running engine, and when to stop: a watch costs tokens.

Pure: time is passed in. After a failure the wait doubles up to a limit; the server's Retry-After counts where it is
longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarm_protocol.units import NS_PER_S

LONGEST_WAIT_S: Final = 600.0  # after failures: often enough to see an engine come back


@dataclass(frozen=True, slots=True)
class PaceConfig:
    every_s: float = 60.0  # from the start of one request to the start of the next
    requests: int | None = None  # None: until stopped
    budget_tokens: int | None = None  # of prompts and answers together; None: no limit


class Pace:
    def __init__(self, config: PaceConfig, now_ns: int) -> None:
        self._config = config
        self._due_ns = now_ns
        self._failures = 0
        self.requests = 0
        self.spent_tokens = 0

    def next_ns(self) -> int | None:
        """Return when the next request is due; None: the watch is over."""
        limit, budget = self._config.requests, self._config.budget_tokens
        if limit is not None and self.requests >= limit:
            return None
        if budget is not None and self.spent_tokens >= budget:
            return None
        return self._due_ns

    @property
    def over_because(self) -> str:
        if self._config.budget_tokens is not None and self.spent_tokens >= self._config.budget_tokens:
            return f"the budget of {self._config.budget_tokens} tokens is spent"
        return f"{self.requests} request{'s were' if self.requests != 1 else ' was'} made"

    def answered(self, asked_ns: int, tokens: int) -> None:
        """Note an answer. `tokens`: of the prompt and the answer."""
        self.requests += 1
        self.spent_tokens += tokens
        self._failures = 0
        self._due_ns = asked_ns + round(self._config.every_s * NS_PER_S)

    def failed(self, asked_ns: int, now_ns: int, retry_after_s: float = 0.0) -> None:
        self.requests += 1
        self._failures += 1
        wait_s = min(self._config.every_s * 2 ** (self._failures - 1), max(LONGEST_WAIT_S, self._config.every_s))
        self._due_ns = max(asked_ns + round(wait_s * NS_PER_S), now_ns + round(retry_after_s * NS_PER_S))
