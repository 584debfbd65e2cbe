"""A Hugging Face config.json → ModelShape, or one line that says why not.

Each `model_type` says how its keys are spelled and what it leaves unsaid; a type that is not listed is refused, since
a wrong shape is worse than none. Multimodal configs are read by their `text_config`. Unknown keys are ignored: a
config has dozens that change no byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from swarm_predict.errors import UnknownModel
from swarm_predict.model.shapes import ModelShape
from swarm_protocol.layer_shape import Architecture, LayerShape

MAX_LAYERS: Final = 10_000
MAX_ELEMENTS: Final = 10_000_000  # of any one dimension


@dataclass(frozen=True, slots=True)
class _Family:
    """What a model_type means where its config is silent (the defaults of its transformers configuration class)."""

    architecture: Architecture = "llama"
    tied: bool = False
    gated: bool = True
    bias: bool = False
    head_dim: int = 0  # 0: hidden / heads
    kv_heads: int = 0  # 0: as many as heads
    window_every: int = 0  # n > 0: all layers but every n-th look through the window
    qk_norm: bool = False
    sinks: bool = False
    window_used: bool = False  # `sliding_window` counts, for all layers, where nothing else says which


FAMILIES: Final[dict[str, _Family]] = {
    "llama": _Family(),
    "mistral": _Family(kv_heads=8, window_used=True),
    "mistral3": _Family(kv_heads=8),
    "ministral": _Family(kv_heads=8, window_used=True),
    "mixtral": _Family("mixtral", kv_heads=8, window_used=True),
    "qwen2": _Family(bias=True),
    "qwen2_moe": _Family("mixtral", bias=True),
    "qwen3": _Family(head_dim=128, qk_norm=True),
    "qwen3_moe": _Family("mixtral", qk_norm=True),
    "gemma": _Family(tied=True, head_dim=256),
    "gemma2": _Family(tied=True, head_dim=256, window_every=2),
    "gemma3": _Family(tied=True, head_dim=256, window_every=6),
    "gemma3_text": _Family(tied=True, head_dim=256, window_every=6),
    "phi3": _Family(window_used=True),
    "phi": _Family("gpt2", gated=False, bias=True),
    "falcon": _Family("falcon", tied=True, gated=False),
    "RefinedWeb": _Family("falcon", tied=True, gated=False),
    "RefinedWebModel": _Family("falcon", tied=True, gated=False),
    "bloom": _Family("bloom", tied=True, gated=False, bias=True),
    "gpt2": _Family("gpt2", tied=True, gated=False, bias=True),
    "gpt_neox": _Family("gpt2", gated=False, bias=True),
    "gpt_bigcode": _Family("gpt2", tied=True, gated=False, bias=True),
    "gptj": _Family("gpt2", gated=False),
    "opt": _Family("gpt2", tied=True, gated=False, bias=True),
    "starcoder2": _Family("gpt2", tied=True, kv_heads=2, window_used=True, gated=False, bias=True),
    "stablelm": _Family(),
    "Yi": _Family(),
    "cohere": _Family(tied=True),
    "cohere2": _Family(tied=True, window_every=4),
    "olmo": _Family(),
    "olmo2": _Family(),
    "olmoe": _Family("mixtral"),
    "granite": _Family(),
    "granitemoe": _Family("mixtral"),
    "glm": _Family(head_dim=128),
    "glm4": _Family(head_dim=128),
    "glm4_moe": _Family("mixtral", head_dim=128),
    "exaone": _Family(),
    "internlm2": _Family(),
    "baichuan": _Family(),
    "smollm3": _Family(tied=True),
    "seed_oss": _Family(head_dim=128),
    "deepseek_v2": _Family("deepseek"),
    "deepseek_v3": _Family("deepseek"),
    "kimi_k2": _Family("deepseek"),
    "gpt_oss": _Family("mixtral", bias=True, sinks=True, head_dim=64, window_every=2),
    "llama4": _Family("mixtral", head_dim=128),
    "llama4_text": _Family("mixtral", head_dim=128),
}

_HIDDEN = ("hidden_size", "n_embd", "d_model", "model_dim")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
_INTERMEDIATE = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner")
_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts")
_ACTIVE = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token")


def from_config(config: Mapping[str, Any] | str, name: str) -> ModelShape:
    """The model that a config.json (its text, or decoded) describes. Raises UnknownModel."""
    if isinstance(config, str):
        config = _decode(config, name)
    outer = config
    if isinstance(config.get("text_config"), Mapping):
        config = {"tie_word_embeddings": outer.get("tie_word_embeddings"), **config["text_config"]}
    kind = config.get("model_type") or outer.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise UnknownModel(f"{name}: model_type {str(kind)[:40]!r} is not understood; known are {known}")
    return _Reader(config, family, str(kind), name).shape()


def _decode(text: str, name: str) -> Mapping[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnknownModel(f"{name} is no JSON ({error}); give --model a Hugging Face config.json") from None
    if not isinstance(config, dict):
        raise UnknownModel(f"{name} is no JSON object; give --model a Hugging Face config.json")
    return config


class _Reader:
    def __init__(self, config: Mapping[str, Any], family: _Family, kind: str, name: str) -> None:
        self.config, self.family, self.kind, self.name = config, family, kind, name

    def shape(self) -> ModelShape:
        layers = self.need(_LAYERS, MAX_LAYERS)
        usual, dense_ids, dense = self._with_experts(self._layer(), layers)
        window, windowed = self._window(layers)
        tied = self.config.get("tie_word_embeddings")
        return ModelShape(
            name=self.name,
            layers=layers,
            layer=usual,
            vocab=self.need(("vocab_size",)),
            tied=self.family.tied if not isinstance(tied, bool) else tied,
            window=window,
            windowed_layers=windowed,
            dense_ids=dense_ids,
            dense_layer=dense,
            source=f"config.json, model_type {self.kind}",
        )

    def _layer(self) -> LayerShape:
        """Attention and the plain MLP."""
        hidden, heads = self.need(_HIDDEN), self.need(_HEADS)
        head_dim = self.get(("head_dim",)) or self.family.head_dim
        if not head_dim:
            if hidden % heads:
                raise UnknownModel(f"{self.name}: {heads} heads do not divide hidden_size {hidden}; give head_dim")
            head_dim = hidden // heads
        intermediate = self.get(_INTERMEDIATE)
        if not intermediate:
            if self.family.gated:
                raise UnknownModel(f"{self.name}: config.json has no {_INTERMEDIATE[0]}")
            intermediate = 4 * hidden
        latent = self.get(("kv_lora_rank",)) if self.family.architecture == "deepseek" else 0
        if self.family.architecture == "deepseek" and not latent:
            raise UnknownModel(f"{self.name}: config.json has no kv_lora_rank")
        if latent:
            head_dim = self.need(("qk_nope_head_dim",))
        return LayerShape(
            architecture=self.family.architecture,
            hidden=hidden,
            intermediate=intermediate,
            heads=heads,
            kv_heads=self._kv_heads(heads),
            head_dim=head_dim,
            gated_mlp=self.family.gated,
            bias=self.family.bias,
            qk_norm=self.family.qk_norm,
            sinks=self.family.sinks,
            kv_lora_rank=latent,
            q_lora_rank=self.get(("q_lora_rank",)) if latent else 0,
            rope_head_dim=self.need(("qk_rope_head_dim",)) if latent else 0,
            v_head_dim=self.need(("v_head_dim",)) if latent else 0,
        )

    def _kv_heads(self, heads: int) -> int:
        config = self.config
        if config.get("multi_query") is True and config.get("new_decoder_architecture") is not True:
            return 1  # Falcon-7B, StarCoder
        count = self.get(_KV_HEADS) or self.family.kv_heads or heads
        if count > heads or heads % count:
            raise UnknownModel(f"{self.name}: {count} KV heads do not divide {heads} heads")
        return count

    def _with_experts(self, plain: LayerShape, layers: int) -> tuple[LayerShape, tuple[int, ...], LayerShape | None]:
        """(the usual layer, which layers keep a plain MLP, that plain layer)."""
        experts = self.get(_EXPERTS)
        if not experts:
            return plain, (), None
        active = self.get(_ACTIVE) or (1 if self.kind.startswith("llama4") else 2)
        if active > experts:
            raise UnknownModel(f"{self.name}: {active} of {experts} experts a token is more than there are")
        width = self.get(("moe_intermediate_size",)) or plain.intermediate
        shared = self.get(("n_shared_experts",))
        if extra := self.get(("shared_expert_intermediate_size",)):
            shared = max(1, round(extra / width))
        if self.kind.startswith("llama4"):
            shared = 1
            plain = msgspec.structs.replace(plain, intermediate=self.get(("intermediate_size_mlp",)) or width)
        usual = msgspec.structs.replace(
            plain, intermediate=width, experts=experts, experts_active=active, shared_experts=shared
        )
        dense = self._dense_ids(layers)
        return usual, dense, plain if dense else None

    def _dense_ids(self, layers: int) -> tuple[int, ...]:
        first = self.get(("first_k_dense_replace",))
        step = self.get(("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq")) or 1
        listed = self.config.get("mlp_only_layers")
        only = {i for i in listed if isinstance(i, int)} if isinstance(listed, list) else set()
        return tuple(i for i in range(layers) if i < first or i in only or (step > 1 and (i + 1) % step))

    def _window(self, layers: int) -> tuple[int, int]:
        """(tokens, how many layers look through the window)."""
        window = self.get(("sliding_window",))
        if not window or self.config.get("use_sliding_window") is False:
            return 0, 0
        types = self.config.get("layer_types")
        if isinstance(types, list) and len(types) == layers:
            count = sum(1 for t in types if t == "sliding_attention")
            return (window, count) if count else (0, 0)
        every = self.get(("sliding_window_pattern",)) or self.family.window_every
        if every > 1:
            return window, layers - layers // every
        if self.config.get("use_sliding_window") is True:  # Qwen2: the layers from max_window_layers on
            count = max(0, layers - self.get(("max_window_layers",)))
            return (window, count) if count else (0, 0)
        return (window, layers) if self.family.window_used else (0, 0)

    def get(self, keys: tuple[str, ...], most: int = MAX_ELEMENTS) -> int:
        """The first of `keys` that is there; 0 where none is (or it is null)."""
        for key in keys:
            value = self.config.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise UnknownModel(f"{self.name}: {key} is {str(value)[:40]!r}, not a count up to {most}")
            return value
        return 0

    def need(self, keys: tuple[str, ...], most: int = MAX_ELEMENTS) -> int:
        value = self.get(keys, most)
        if not value:
            raise UnknownModel(f"{self.name}: config.json has no {keys[0]} (model_type {self.kind})")
        return value
