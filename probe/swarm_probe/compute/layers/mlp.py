"""Compute the second half of a decoder layer: one MLP, or experts that a router chooses, with shared ones.

Sources: Shazeer 2020 (SwiGLU), Jiang 2024 (Mixtral), DeepSeek-V3 2024 (sigmoid scores, shared experts), OpenAI 2025
(gpt-oss: clamped SwiGLU with biases).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it

from swarm_probe.compute.layers.matrices import Weights
from swarm_protocol.layer_shape import LayerShape

GELU: Final[dict[str, Literal["tanh", "none"]]] = {"bloom": "tanh", "gpt2": "tanh"}
CLAMP: Final = 7.0  # gpt-oss's `swiglu_limit`
SHARPNESS: Final = 1.702  # of its gate
DEEPSEEK_SCALE: Final = 2.5  # DeepSeek-V3's `routed_scaling_factor`


class Mlp:
    """SwiGLU, or GELU between two matrices."""

    def __init__(self, shape: LayerShape, weights: Weights) -> None:
        bias = shape.sinks or (shape.bias and shape.architecture in ("bloom", "gpt2", "falcon"))
        self._gated, self._clamped = shape.gated_mlp, shape.sinks
        self._gelu = GELU.get(shape.architecture, "none")
        self.up = weights.linear(shape.intermediate * (2 if shape.gated_mlp else 1), shape.hidden, bias=bias)
        self.down = weights.linear(shape.hidden, shape.intermediate, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.up(x)
        if not self._gated:
            return self.down(F.gelu(inner, approximate=self._gelu))
        gate, inner = inner.chunk(2, dim=-1)
        if self._clamped:
            gate, inner = gate.clamp(max=CLAMP), inner.clamp(-CLAMP, CLAMP)
            return self.down((inner + 1) * (gate * torch.sigmoid(SHARPNESS * gate)))
        return self.down(F.silu(gate) * inner)


class Experts:
    """Routed experts: softmax over the chosen (Mixtral, Qwen, gpt-oss) or normalised sigmoids (DeepSeek)."""

    def __init__(self, shape: LayerShape, weights: Weights) -> None:
        self._active = shape.experts_active
        self._sigmoid = shape.architecture == "deepseek"
        self.router = weights.linear(shape.experts, shape.hidden, bias=shape.sinks, plain=True)
        self.experts = [Mlp(shape, weights) for _ in range(shape.experts)]
        self.shared = [Mlp(shape, weights) for _ in range(shape.shared_experts)]
        self.script: Iterator[torch.Tensor] | None = None  # (tokens, active), in place of the router's choice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        shares, chosen = self._route(flat)
        if self.script is not None:
            chosen = next(self.script)
        y = torch.zeros_like(flat)
        if len(flat) == 1:  # every chosen expert sees the one token: no search
            for place, number in enumerate(chosen[0].tolist()):
                y += self.experts[number].forward(flat) * shares[:, place, None]
        else:
            for number in torch.unique(chosen).tolist():  # waits for the device, as engines without fused experts do
                token, place = torch.where(chosen == number)
                y.index_add_(0, token, self.experts[number].forward(flat[token]) * shares[token, place, None])
        for shared in self.shared:
            y = y + shared.forward(flat)
        return y.view_as(x)

    def _route(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (shares, experts), each (tokens, active)."""
        logits = self.router(flat)
        logits = logits.float() if logits.dtype.itemsize == 2 else logits
        if self._sigmoid:
            scores, chosen = torch.topk(logits.sigmoid(), self._active, dim=-1)
            return (DEEPSEEK_SCALE * scores / scores.sum(-1, keepdim=True)).to(flat.dtype), chosen
        scores, chosen = torch.topk(logits, self._active, dim=-1)
        return F.softmax(scores, dim=-1).to(flat.dtype), chosen
