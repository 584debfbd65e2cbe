"""Describe the shape of one decoder layer: the probe builds it in torch, the predictor counts its bytes.

Dimensions are those of a Hugging Face `config.json`; both sides use only these names.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Architecture = Literal["llama", "bloom", "falcon", "mixtral", "gpt2", "deepseek"]
Phase = Literal["decode", "prefill"]
# the subject of a compute sample: a layer, an end of the model, or what each visit adds
Timed = Literal["decode", "prefill", "head", "embed", "visit"]


class LayerShape(msgspec.Struct, frozen=True, kw_only=True):
    """One decoder layer. All sizes are element counts, per layer, before sharding."""

    architecture: Architecture
    hidden: int
    intermediate: int  # MLP width (of one expert where `experts` > 0)
    heads: int
    kv_heads: int
    head_dim: int
    gated_mlp: bool = True  # SwiGLU: three matrices instead of two
    bias: bool = False  # on q, k, v (Llama kin); BLOOM, GPT-2 and gpt-oss have it everywhere
    qk_norm: bool = False  # RMSNorm of each query and key head (Qwen3)
    sinks: bool = False  # gpt-oss: a learned sink in each head's softmax, clamped SwiGLU with biases
    experts: int = 0  # routed experts; 0 = dense
    experts_active: int = 0  # per token
    shared_experts: int = 0
    kv_lora_rank: int = 0  # > 0: latent attention (DeepSeek MLA), where head_dim is the part without position
    q_lora_rank: int = 0  # of MLA; 0: queries are projected directly
    rope_head_dim: int = 0  # of MLA: the part of each head that carries position
    v_head_dim: int = 0  # of MLA; 0 = head_dim

    @property
    def value_dim(self) -> int:
        return self.v_head_dim or self.head_dim

    @property
    def attention_params(self) -> int:
        """Return the elements of q, k, v and output projections."""
        if self.kv_lora_rank:
            query = self.heads * (self.head_dim + self.rope_head_dim)
            queries = self.q_lora_rank * (self.hidden + query) if self.q_lora_rank else self.hidden * query
            down = self.hidden * (self.kv_lora_rank + self.rope_head_dim)
            up = self.kv_lora_rank * self.heads * (self.head_dim + self.value_dim)
            return queries + down + up + self.heads * self.value_dim * self.hidden
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def expert_params(self) -> int:
        """Return the elements of one MLP (one expert)."""
        return self.hidden * self.intermediate * (3 if self.gated_mlp else 2)

    @property
    def params(self) -> int:
        """Return all elements of the layer, every expert counted, norms and biases left out (under 0.1 %)."""
        copies = self.experts + self.shared_experts if self.experts else 1
        router = self.hidden * self.experts
        return self.attention_params + router + self.expert_params * copies

    @property
    def params_active(self) -> int:
        """Return the elements that one token uses."""
        copies = self.experts_active + self.shared_experts if self.experts else 1
        return self.attention_params + self.hidden * self.experts + self.expert_params * copies

    @property
    def kv_elements(self) -> int:
        """Return the elements of K and V kept for one token of context."""
        if self.kv_lora_rank:
            return self.kv_lora_rank + self.rope_head_dim
        return 2 * self.kv_heads * self.head_dim
