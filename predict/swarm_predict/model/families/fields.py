"""Read the fields of one config.json, with the defaults of its transformers class.

A key that is there counts, even where it is null (null means "none" or "derived from others"); a missing key takes the
class's default. The size of the model must be in the configuration itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from swarm_predict.errors import UnknownModel
from swarm_predict.model.families.defaults import family_defaults

MAX_LAYERS: Final = 10_000
MAX_ELEMENTS: Final = 10_000_000  # of any one dimension

HIDDEN: Final = ("hidden_size", "n_embd", "n_embed", "d_model", "model_dim", "dim")
LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HEADS: Final = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KV_HEADS: Final = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "num_attention_groups", "multi_query_group_num")
INTERMEDIATE: Final = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "block_ff_dim")
EXPERTS: Final = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
ACTIVE: Final = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_topk", "moe_top_k",
    "moe_k", "topk_experts",
)  # fmt: skip
EXPERT_WIDTH: Final = ("moe_intermediate_size", "expert_ffn_hidden_size", "expert_intermediate_size")
BY_HAND: Final = "enter the shape by hand: [model] in a swarm file, docs/swarm-file.md"


class Fields:
    def __init__(self, config: Mapping[str, Any], kind: str, name: str, defaults_of: str = "") -> None:
        self.config, self.kind, self.name = config, kind, name
        self.defaults: Mapping[str, Any] = family_defaults().get(defaults_of or kind, {})

    def raw(self, *keys: str) -> Any:
        """Return the first of `keys` with a value in the configuration, else in its class; None: neither."""
        for key in keys:
            if self.config.get(key) is not None:
                return self.config[key]
        if any(key in self.config for key in keys):
            return None
        for key in keys:
            if key in self.defaults:
                return self.defaults[key]
        return None

    def get(self, keys: tuple[str, ...], most: int = MAX_ELEMENTS) -> int:
        """Return a count; 0 if none is there (or it is null)."""
        value = self.raw(*keys)
        if value is None:
            return 0
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            named = next((key for key in keys if self.config.get(key) is not None), keys[0])
            raise self.error(f"{named} is {str(value)[:40]!r}, not a count up to {most}")
        return value

    def need(self, keys: tuple[str, ...], most: int = MAX_ELEMENTS) -> int:
        value = self.get(keys, most)
        if not value:
            raise self.lacks(keys[0])
        return value

    def said(self, keys: tuple[str, ...], most: int = MAX_ELEMENTS) -> int:
        """Return what the configuration itself must state, whatever its class's default."""
        if not any(key in self.config for key in keys):
            raise self.lacks(keys[0])
        return self.need(keys, most)

    def flag(self, *keys: str) -> bool:
        return self.raw(*keys) is True

    def numbers(self, key: str, layers: int) -> list[int] | None:
        """Return one whole number a layer; entries beyond the last layer (of prediction heads) are left out."""
        value = self.raw(key)
        if not isinstance(value, list):
            return None
        if len(value) < layers or not all(isinstance(v, int) for v in value):
            raise self.error(f"{key} has {len(value)} entries, not one whole number for each of {layers} layers")
        return [int(v) for v in value[:layers]]

    def words(self, key: str, layers: int) -> list[str] | None:
        value = self.raw(key)
        if not isinstance(value, list) or not value:
            return None
        if len(value) < layers or not all(isinstance(v, str) for v in value):
            raise self.error(f"{key} has {len(value)} entries, not one word for each of {layers} layers")
        return [str(v) for v in value[:layers]]

    def lacks(self, key: str) -> UnknownModel:
        return self.error(f"config.json has no {key} (model_type {self.kind})")

    def error(self, what: str) -> UnknownModel:
        return UnknownModel(f"{self.name}: {what}")
