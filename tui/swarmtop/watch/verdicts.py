"""Decide which uses a measured speed is good enough for; all thresholds are here.

chat         the first token within a second, then ten a second: somewhat faster than most people read
completion   the first token within a second, then fifty a second: a suggestion has to be quick
batch        nobody waits; the time of a million tokens with one request in flight is given instead
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from swarmtop.text import quantities

FIRST_TOKEN_MS: Final = 1_000.0
READING_TOKENS_PER_S: Final = 10.0
COMPLETION_TOKENS_PER_S: Final = 50.0
BATCH_TOKENS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Fitness:
    workload: Literal["chat", "completion", "batch"]
    good: bool | None  # None: a matter of patience
    why: str


def fitness(ttft_ms: float, tokens_per_s: float) -> tuple[Fitness, ...]:
    return (
        _interactive("chat", ttft_ms, tokens_per_s, READING_TOKENS_PER_S),
        _interactive("completion", ttft_ms, tokens_per_s, COMPLETION_TOKENS_PER_S),
        Fitness(
            "batch",
            None,
            f"a million tokens take {quantities.seconds(BATCH_TOKENS / tokens_per_s)}, one request at a time",
        ),
    )


def _interactive(workload: Literal["chat", "completion"], ttft_ms: float, tokens_per_s: float, least: float) -> Fitness:
    first = ttft_ms <= FIRST_TOKEN_MS
    fast = tokens_per_s >= least
    why = (
        f"first token {quantities.ms(ttft_ms)} of {quantities.ms(FIRST_TOKEN_MS)} allowed, "
        f"{quantities.rate(tokens_per_s)} of {least:g} needed"
    )
    return Fitness(workload, first and fast, why)
