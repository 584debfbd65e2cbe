"""Model speculative decoding: the tokens that a window of draft tokens yields, and whether the windows behind it stay
valid.

A draft model guesses K tokens; one pass through the stages (a window) verifies them. Guess j is right with chance a_j
given that those before it are. Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", arXiv
2211.17192, equation 1: a window alone yields 1 + Σ a_1…a_j tokens, (1 − a^(K+1)) / (1 − a) where all a_j are equal.
Over a wire the window pays its hops once, with K+1 activations in each message, which is why guessing pays there.

Tree drafts (Miao et al., SpecInfer, arXiv 2305.09781; Chen et al., Sequoia, arXiv 2402.12374) guess B alternatives at
each position: where the first is wrong, each further one is right with chance `tree_accept`.

With several windows in flight (Butler et al., PipeInfer, arXiv 2407.11798; leyten/shard bca9308 phase0/specpipe.py
`coordinate_pipe`) the next window continues from the guesses of the one before. It is valid only if all of those are
right on the first choice; then a window yields its K guesses, and the token that follows them is its successor's.
Otherwise it yields what is right and one correction, and every window behind it is discarded.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm_predict.types import Workload


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcome of one window that follows a valid one."""

    goes_on: float  # chance that all guesses are right, so that the windows behind stay valid
    tokens_on: int  # that it then yields
    ends: tuple[float, ...]  # chance that it yields 1, 2, … K+1 tokens and the windows behind are discarded

    @property
    def tokens_a_window(self) -> float:
        return self.goes_on * self.tokens_on + sum(chance * (n + 1) for n, chance in enumerate(self.ends))


def accepts(workload: Workload) -> tuple[float, ...]:
    """Return the chance of each guess, given that those before it are right; the last one given repeats."""
    count, given = workload.draft_tokens, workload.draft_profile or (workload.draft_accept,)
    return tuple(given[min(k, len(given) - 1)] for k in range(count))


def _with_branches(workload: Workload) -> tuple[float, ...]:
    """Return the chance that any alternative at a position is right."""
    missed = (1 - workload.tree_accept) ** (workload.tree_branches - 1)
    return tuple(1 - (1 - chance) * missed for chance in accepts(workload))


def step_yield(workload: Workload) -> float:
    """Return the mean tokens of a window that travels alone."""
    reached, total = 1.0, 1.0
    for chance in _with_branches(workload):
        reached *= chance
        total += reached
    return total


def window_yields(workload: Workload) -> tuple[float, ...]:
    """Return the chance that a window that travels alone yields 1, 2, … K+1 tokens."""
    reached, chances = 1.0, []
    for chance in _with_branches(workload):
        chances.append(reached * (1 - chance))
        reached *= chance
    return (*chances, reached)


def outcomes(workload: Workload) -> Outcomes:
    """Return what a window yields while others are in flight behind it."""
    on, reached, ends = 1.0, 1.0, []
    for first, chance in zip(accepts(workload), _with_branches(workload), strict=True):
        on *= first
        ends.append(reached * (1 - chance))
        reached *= chance
    ends.append(reached - on)  # the whole depth is right, but by another branch than the one drafted on
    return Outcomes(on, workload.draft_tokens, tuple(ends))


def step_width(workload: Workload) -> int:
    """Return the tokens that one step computes for the batch."""
    return workload.batch * (workload.draft_tokens * workload.tree_branches + 1)


def drafting_ms(workload: Workload) -> float:
    """Return the drafting time of one step: guesses come one after the other, alternatives of a position together."""
    return workload.draft_tokens * workload.draft_ms
