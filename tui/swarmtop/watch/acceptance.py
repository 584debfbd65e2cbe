"""Compute how many guesses of speculative decoding an engine accepts, from its counters. Pure.

vLLM          vllm:spec_decode_num_drafts, …_num_draft_tokens and …_num_accepted_tokens_per_pos by position:
              vllm/v1/spec_decode/metrics.py. A guess counts as accepted only if those before it are, so the chance of
              each, given those before it, is the ratio of two neighbours
llama-server  `timings` at the end of an answer: draft_n guesses, draft_n_accepted of them, predicted_n tokens.
              Each verified step yields one token that was not guessed, so there were predicted_n − draft_n_accepted
              steps; one chance for all positions gives their mean: ggml-org/llama.cpp tools/server
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_GUESSES: Final = 64  # of a window, as --draft takes
ROUNDS: Final = 60


@dataclass(frozen=True, slots=True)
class Acceptance:
    guesses: int  # in each step
    chances: tuple[float, ...]  # by position, given that those before are right; one: the same for all
    drafts: float  # steps that it was measured in

    @property
    def option(self) -> str:
        """Return what --draft takes: `4:0.84,0.78,0.8,0.75`."""
        return f"{self.guesses}:{','.join(f'{chance:.3g}' for chance in self.chances)}"


def by_position(drafts: float, drafted: float, accepted: Sequence[float]) -> Acceptance | None:
    """`accepted`: guesses that were right at each position. None: nothing was guessed."""
    if drafts < 1 or drafted < 1:
        return None
    guesses = min(max(1, round(drafted / drafts)), MAX_GUESSES)
    chances, before = [], drafts
    for right in accepted[:guesses]:
        if before <= 0:  # never reached: not known
            break
        chances.append(min(1.0, right / before))
        before = right
    return Acceptance(guesses, tuple(chances), drafts) if chances else None


def by_mean(tokens: float, drafted: float, accepted: float) -> Acceptance | None:
    """From an answer of so many tokens. None: nothing was guessed, or the figures contradict each other."""
    steps = tokens - accepted
    if drafted < 1 or steps < 1 or not 0 <= accepted <= drafted:
        return None
    guesses = min(max(1, math.ceil(drafted / steps)), MAX_GUESSES)
    wanted = accepted / steps
    low, high = 0.0, 1.0
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(middle**k for k in range(1, guesses + 1)) < wanted else (low, middle)
    return Acceptance(guesses, (high,), steps)
