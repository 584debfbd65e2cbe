"""Compute the two ends of a model: the embedding that begins a step; the norm, LM head and token choice that end it."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it

from swarm_probe.compute.layers.attention import NORM_EPS
from swarm_probe.compute.layers.matrices import Weights


class Embedding:
    """Token ids on the host → activations on the device."""

    def __init__(self, vocab: int, hidden: int, weights: Weights) -> None:
        self._table = weights.matrix(vocab, hidden)
        self._scale = hidden**0.5  # rows were drawn with the variance of a matrix: scale back to one

    @torch.inference_mode()
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Turn (batch, tokens) on the host into (batch, tokens, hidden)."""
        return F.embedding(ids.to(self._table.device), self._table) * self._scale


class Head:
    """The last activation of each sequence → its likeliest next token, on the host, as each step ends."""

    def __init__(self, vocab: int, hidden: int, weights: Weights) -> None:
        self._norm = weights.vector(hidden, 1.0)
        self._matrix = weights.linear(vocab, hidden, plain=True)  # quantisers leave it unquantised

    @torch.inference_mode()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (batch, tokens, hidden) into (batch, 1) ids on the host."""
        return self.choose(x).cpu()

    @torch.inference_mode()
    def choose(self, x: torch.Tensor) -> torch.Tensor:
        """Choose the tokens, still on the device."""
        last = F.rms_norm(x[:, -1], (x.shape[-1],), self._norm, NORM_EPS)
        return self._matrix(last).argmax(dim=-1, keepdim=True)
