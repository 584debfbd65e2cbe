"""Speculative decoding: how many tokens one step yields when a draft model guesses some of them.

Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", arXiv 2211.17192, equation 1: with k
guesses, each right with chance a given those before it, a step yields (1 − a^(k+1)) / (1 − a) tokens on average. Over
a wire the step still pays its hops once, with k+1 activations in each message, which is why guessing pays there.
"""

from __future__ import annotations

from swarm_predict.types import Workload


def tokens_a_step(guesses: int, accept: float) -> float:
    """Between 1 (none is ever right) and guesses + 1 (all of them always are)."""
    return float(sum(accept**k for k in range(guesses + 1)))


def step_yield(workload: Workload) -> float:
    return tokens_a_step(workload.draft_tokens, workload.draft_accept)


def step_width(workload: Workload) -> int:
    """Tokens that one step computes for the batch."""
    return workload.batch * (workload.draft_tokens + 1)


def drafting_ms(workload: Workload) -> float:
    """Of one step: the guesses come one after the other."""
    return workload.draft_tokens * workload.draft_ms
