"""Compute the number of passes that an answer takes if each pass verifies a window of draft tokens.

A window yields 1 to K + 1 tokens, independently of the others (`cost.speculative`), and an answer ends with the window
that completes it: the number of windows is that of a renewal process,

    m(t) = 1 + Σ p_j · m(t − j),  j = 1 … K + 1          m(t) = 0 for t ≤ 0

With W windows of a sequence in flight, evenly spaced over a cycle, one returns every 1/W of a cycle. The first takes a
whole cycle; one behind a fully accepted window returns 1/W later, one behind a rejection is sent when that is known,
and takes a whole cycle again. So, in cycles, an answer of t tokens takes 1 + g(t):

    g(t) = chance to go on · (1/W + g(t − K)) + Σ e_j · (1 + g(t − j))          each term is 0 if no token is missing
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from swarm_predict.cost.speculative import Outcomes
from swarm_predict.serving.lengths import Lengths
from swarm_protocol.snapshot.swarm import Floats

EXACT_TOKENS: Final = 512  # beyond, the process is stationary and its moments are straight lines


def passes_of(answers: Lengths, yields: Sequence[float]) -> tuple[float, float]:
    """Return (mean, variance) of the passes after the first token. `yields`: chance of 1, 2 … tokens in a pass."""
    if len(yields) == 1:
        tokens = _further(answers)
        return float(tokens.mean()), float(tokens.var())
    steps = [(chance, count + 1, 1.0) for count, chance in enumerate(yields)]
    return _over(answers, *_moments(steps))


def cycles_of(answers: Lengths, found: Outcomes, windows: int) -> tuple[float, float]:
    """Return (mean, variance) of the cycles after the first token, with so many windows of an answer in flight."""
    steps = [(chance, count + 1, 1.0) for count, chance in enumerate(found.ends)]
    return _over(answers, *_moments([*steps, (found.goes_on, found.tokens_on, 1 / windows)]))


def _further(answers: Lengths) -> Floats:
    return np.asarray(np.maximum(np.array(answers.values) - 1, 0.0))


def _over(answers: Lengths, means: Floats, squares: Floats) -> tuple[float, float]:
    """Return (mean, variance) over all answers, of those of 0, 1 … tokens."""
    tokens = _further(answers)
    variances = squares - means**2
    slopes = [part[-1] - part[-2] for part in (means, variances)]
    at = np.arange(len(means), dtype=np.float64)
    beyond = np.maximum(tokens - at[-1], 0.0)
    mean = np.interp(tokens, at, means) + beyond * slopes[0]
    variance = np.interp(tokens, at, variances) + beyond * slopes[1]
    return float(mean.mean()), float(variance.mean() + mean.var())


def _moments(steps: Sequence[tuple[float, int, float]]) -> tuple[Floats, Floats]:
    """Return (mean, mean square) of what 0, 1 … tokens take: 1 for the first window, and for each further one what its
    predecessor's outcome says. `steps`: (chance, tokens, time until the next valid window is home)."""
    means, squares = np.zeros(EXACT_TOKENS + 1), np.zeros(EXACT_TOKENS + 1)  # of g, below 1
    for tokens in range(1, len(means)):
        for chance, got, takes in steps:
            if got < tokens:
                further = means[tokens - got]
                means[tokens] += chance * (takes + further)
                squares[tokens] += chance * (takes**2 + 2 * takes * further + squares[tokens - got])
    first = np.minimum(np.arange(len(means)), 1)
    return first + means, first * (1 + 2 * means + squares)
