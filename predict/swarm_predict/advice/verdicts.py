"""Judge a predicted speed for usual workloads, and list published figures to compare it with.

The limits are ours, in one place, and are printed with every verdict:

    chat         faster than people read: 5 tokens/s (200 to 300 words a minute, 1.3 tokens a word, are 4 to 6.5)
    completion   a suggestion of 20 tokens while the thought lasts: 1 s (Nielsen, Usability Engineering, 1993, §5.5)
    batch        a million tokens in a day

"good" holds in the slow twentieth of tokens too, "usable" at the median.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from swarm_predict.types import Prediction

Level = Literal["good", "usable", "slow", "no", "unknown"]

READING_TOKENS_PER_S: Final = 5.0
SLOW_READING_TOKENS_PER_S: Final = 1.0
CHAT_FIRST_MS: Final = 2_000.0
CHAT_PATIENCE_MS: Final = 10_000.0  # Nielsen: attention is lost
SUGGESTION_TOKENS: Final = 20
SUGGESTION_MS: Final = 1_000.0
SUGGESTION_PATIENCE_MS: Final = 3_000.0
SUGGESTION_LOST_MS: Final = 10_000.0
BATCH_TOKENS: Final = 1_000_000
HOUR_S: Final = 3600.0
DAY_HOURS: Final = 24.0
WEEK_HOURS: Final = 7 * DAY_HOURS
MONTH_HOURS: Final = 30 * DAY_HOURS


@dataclass(frozen=True, slots=True)
class Verdict:
    workload: Literal["chat", "completion", "batch"]
    level: Level
    why: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """A figure that was published or claimed. None of them was measured here."""

    name: str
    params: float  # of the model: what it is fair to compare with
    tokens_per_s: float | None  # of one stream
    total_tokens_per_s: float | None  # over all streams
    first_token_ms: float | None
    source: str


BASELINES: Final[tuple[Baseline, ...]] = (
    Baseline("Together AI, 70B", 70e9, 50.0, None, 150.0, "claimed by the article this project starts from, no date"),
    Baseline("Hugging Face, 70B", 70e9, 40.0, None, 200.0, "claimed by the article this project starts from, no date"),
    Baseline("Petals, Llama 2 70B", 70e9, 6.0, None, None, "up to, Petals README (2024-08)"),
    Baseline("Petals, BLOOM-176B, 3 × A100", 176e9, 1.71, None, None, "1 Gbit/s, 5 ms; Petals README (2023-03)"),
    Baseline(
        "FlexGen, OPT-30B on one T4", 30e9, None, 7.32, None, "144 sequences, FlexLLMGen benchmark/batch_size_table.md"
    ),
)


LIKE: Final = 1.5  # times as many parameters, or as few


def like(baseline: Baseline, params: float) -> bool:
    """Return whether its model is about as large."""
    return params > 0 and 1 / LIKE <= baseline.params / params <= LIKE


def verdicts(found: Prediction, streams: int = 1) -> tuple[Verdict, ...]:
    """Return the verdicts. `streams`: the number of requests of the total; named with the batch verdict."""
    return (_chat(found), _completion(found), _batch(found, streams))


def _chat(found: Prediction) -> Verdict:
    speed, first = found.tokens_per_s, found.ttft_ms
    waits = math.isfinite(first.p50)
    start = f"first token after {_seconds(first.p50)}" if waits else "first token not known"
    why = f"{speed.p50:.3g} tokens/s (people read {READING_TOKENS_PER_S:g}); {start}"
    if speed.p50 < SLOW_READING_TOKENS_PER_S:
        return Verdict("chat", "no", why)
    if not waits:
        return Verdict("chat", "unknown" if speed.p50 >= READING_TOKENS_PER_S else "slow", why)
    if speed.p5 >= READING_TOKENS_PER_S and first.p95 <= CHAT_FIRST_MS:
        return Verdict("chat", "good", why)
    if speed.p50 >= READING_TOKENS_PER_S and first.p50 <= CHAT_PATIENCE_MS:
        return Verdict("chat", "usable", why)
    return Verdict("chat", "slow", why)


def _completion(found: Prediction) -> Verdict:
    rest = SUGGESTION_TOKENS - 1
    first = found.ttft_ms
    typical = (first.p50 if math.isfinite(first.p50) else 0.0) + rest * found.tpot_ms.p50
    # the tokens of one suggestion vary independently: their sum is nearer its mean than one token is
    slow = (first.p95 if math.isfinite(first.p95) else 0.0) + rest * found.tpot_ms.mean
    slow += math.sqrt(rest) * max(0.0, found.tpot_ms.p95 - found.tpot_ms.mean)
    why = f"{SUGGESTION_TOKENS} tokens take {_seconds(typical)}; a suggestion should take {_seconds(SUGGESTION_MS)}"
    level: Level = "no"
    for limit, name in ((SUGGESTION_PATIENCE_MS, "usable"), (SUGGESTION_LOST_MS, "slow")):
        if typical <= limit:
            level = "usable" if name == "usable" else "slow"
            break
    if slow <= SUGGESTION_MS:
        level = "good"
    if not math.isfinite(first.p50):
        why = f"{rest} further tokens take {_seconds(typical)}; first token not known"
        if level != "no":
            level = "unknown"
    return Verdict("completion", level, why)


def _batch(found: Prediction, streams: int) -> Verdict:
    total = found.throughput_tokens_per_s
    hours = BATCH_TOKENS / total / HOUR_S
    flight = "one request" if streams == 1 else f"{streams} requests"
    shown = f"{hours:.3g} hours" if hours < 2 * DAY_HOURS else f"{hours / DAY_HOURS:.3g} days"
    why = f"a million tokens take {shown} with {flight} in flight"
    for limit, level in ((DAY_HOURS, "good"), (WEEK_HOURS, "usable"), (MONTH_HOURS, "slow")):
        if hours <= limit:
            return Verdict("batch", level, why)  # type: ignore[arg-type]
    return Verdict("batch", "no", why)


def _seconds(ms: float) -> str:
    return f"{ms:.3g} ms" if ms < 1e3 else f"{ms / 1e3:.3g} s"
