"""Compute the distribution of the time to the first token from the state that a request finds (`prefill_decode_chain`).

A request waits for those before it, then for a micro-batch to come round, and then takes as many passes as its prompt
has chunks. Means follow from the average number of requests there (Little's law) and are set by the caller.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from swarm_predict.serving.queueing.distributions import Spread, spread
from swarm_predict.serving.queueing.prefill_decode_chain import Phases, TwoPhases
from swarm_protocol.snapshot.swarm import Floats

BINS: Final = 48  # of states, by what a request waits in them
POINTS: Final = 8  # equally likely points of each wait


def first_tokens(phases: Phases, found: TwoPhases) -> tuple[Spread, Spread]:
    """Return the time from arrival to the first token, and of it until a micro-batch takes the request in."""
    before, turn, part = (values.ravel() for values in phases.waits_ms(found.beyond))
    chance = found.chance.ravel()
    order = np.argsort(before + turn)
    order = order[chance[order] > 0]
    rising = np.cumsum(chance[order])
    starts = np.unique(np.searchsorted(rising, np.arange(BINS) / BINS * rising[-1]))
    weights = np.add.reduceat(chance[order], starts)

    def binned(values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(chance[order] * values[order], starts) / weights)

    at = (np.arange(POINTS) + 0.5) / POINTS
    # those before take exponential times where prompts vary so, and the same where all are alike
    varies = min(1.0, math.sqrt(phases.prompts_scv))
    ahead = 1 - varies - varies * np.log(1 - at)
    waits = binned(before)[:, None, None] * ahead[None, :, None] + 2 * binned(turn)[:, None, None] * at
    each = np.repeat(weights / POINTS**2, POINTS**2)
    queue = spread(waits.ravel(), each)
    alone = phases.prompt_ms / phases.prompt_ms.mean() * phases.route.prompts.mean_passes
    whole = waits.ravel()[:, None] + np.repeat(binned(part), POINTS**2)[:, None] * alone[None, :]
    return spread(whole.ravel(), np.repeat(each / len(alone), len(alone))), queue
