"""How many passes an answer takes where each pass verifies a window of guesses, and what they are worth.

A window yields 1 to K + 1 tokens, independently of the others (`cost.speculative`), and an answer ends with the window
that completes it: the number of windows is that of a renewal process,

    m(t) = 1 + Σ p_j · m(t − j),  j = 1 … K + 1          m(t) = 0 for t ≤ 0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from swarm_predict.serving.lengths import Lengths
from swarm_protocol.snapshot.swarm import Floats

EXACT_TOKENS: Final = 512  # beyond, the process is stationary and its moments are straight lines


def passes_of(answers: Lengths, yields: Sequence[float]) -> tuple[float, float]:
    """Return (mean, variance) of the passes after the first token. `yields`: chance of 1, 2 … tokens in a pass."""
    tokens = np.maximum(np.array(answers.values) - 1, 0.0)
    if len(yields) == 1:
        return float(tokens.mean()), float(tokens.var())
    means, squares = _moments(yields)
    variances = squares - means**2
    slopes = [part[-1] - part[-2] for part in (means, variances)]
    at = np.arange(len(means), dtype=np.float64)
    beyond = np.maximum(tokens - at[-1], 0.0)
    mean = np.interp(tokens, at, means) + beyond * slopes[0]
    variance = np.interp(tokens, at, variances) + beyond * slopes[1]
    return float(mean.mean()), float(variance.mean() + mean.var())


def _moments(yields: Sequence[float]) -> tuple[Floats, Floats]:
    """Return (mean, mean square) of the windows that 0, 1 … tokens take."""
    chance, most = np.array(yields), len(yields)
    means, squares = np.zeros(most + EXACT_TOKENS + 1), np.zeros(most + EXACT_TOKENS + 1)
    for tokens in range(most + 1, len(means)):  # the first places are t ≤ 0
        before = slice(tokens - most, tokens)
        after_mean, after_square = chance[::-1] @ means[before], chance[::-1] @ squares[before]
        means[tokens], squares[tokens] = 1 + after_mean, 1 + 2 * after_mean + after_square
    return means[most:], squares[most:]
