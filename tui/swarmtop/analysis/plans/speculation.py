"""Describe the gain of speculative decoding over one window at a time and over plain decoding."""

from __future__ import annotations

from dataclasses import dataclass, replace

from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Placement, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.text import quantities


@dataclass(frozen=True, slots=True)
class Speculation:
    """Tokens per second of one stream on one placement, at the median."""

    guesses: int
    windows: int
    tokens_per_s: float
    one_window_tokens_per_s: float
    plain_tokens_per_s: float


def speculation(
    swarm: Swarm, model: ModelShape, asked: Workload, chosen: Workload, placement: Placement, tokens_per_s: float
) -> Speculation | None:
    """`asked`: with the most guesses, `chosen`: what the plan is for. None if nothing was to be guessed."""
    if not asked.draft_tokens:
        return None
    one, plain = (
        predict(swarm, model, placement, load).tokens_per_s.p50
        for load in (replace(chosen, windows=1), replace(chosen, windows=1, draft_tokens=0))
    )
    return Speculation(chosen.draft_tokens, chosen.windows, tokens_per_s, one, plain)


def speculation_object(found: Speculation | None) -> dict[str, object]:
    if found is None:
        return {"speculation": None}
    return {
        "speculation": {
            "guesses": found.guesses,
            "windows": found.windows,
            "tokens_per_s": found.tokens_per_s,
            "one_window_tokens_per_s": found.one_window_tokens_per_s,
            "plain_tokens_per_s": found.plain_tokens_per_s,
        }
    }


def speculation_line(found: Speculation | None) -> str:
    if found is None:
        return ""
    plain = f"without draft tokens {quantities.rate(found.plain_tokens_per_s)}"
    if not found.guesses:
        return f"speculative decoding does not pay here: {plain} is the best"
    beside = f"one window at a time {quantities.rate(found.one_window_tokens_per_s)}, {plain}"
    return (
        f"speculation: {found.guesses} draft tokens a window, {found.windows} "
        f"window{'s' if found.windows > 1 else ''} in flight: {quantities.rate(found.tokens_per_s)} ({beside})"
    )
