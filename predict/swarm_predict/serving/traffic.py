"""Describe the requests of many users: how many a second, and how long their prompts and answers are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from swarm_predict.errors import PredictError
from swarm_predict.serving.lengths import Lengths


@dataclass(frozen=True, slots=True)
class Traffic:
    """Arrivals are Poisson; lengths of prompts and answers are independent. Raises PredictError for what cannot be."""

    arrivals_per_s: float
    prompt: Lengths
    generate: Lengths
    micro_batches: int = 0  # in flight; 0: what the engine runs, or what fills the pipeline
    most_sequences: int = 0  # at once; 0: what memory holds

    def __post_init__(self) -> None:
        if not 0 < self.arrivals_per_s < math.inf:
            raise PredictError(f"{self.arrivals_per_s:g} arrivals a second is not a valid rate; it must be above 0")
        if self.generate.mean < 2:
            raise PredictError("answers of one token have no time per token; let --generate be 2 or more on average")

    @property
    def cached_tokens(self) -> float:
        """Return the tokens in the cache of a sequence in flight, on average over its passes, prompts whole."""
        prompt, generate = self.prompt, self.generate
        grown = prompt.mean * (generate.mean - 1) + (generate.square - generate.mean) / 2
        return (prompt.mean + grown) / generate.mean

    @property
    def longest_tokens(self) -> float:
        return self.prompt.values[-1] + self.generate.values[-1]
