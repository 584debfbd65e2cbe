"""Read families whose attention layers differ: Gemma 4, MiMo V2, MiniMax M3, Step 3, Nemotron-NAS."""

from __future__ import annotations

from typing import Final

import msgspec

from swarm_predict.model import blocks
from swarm_predict.model.blocks import Block
from swarm_predict.model.families import fields as f
from swarm_predict.model.families.decoder import WINDOWED, Decoder, Parts
from swarm_predict.model.kv_cache import Cache
from swarm_predict.model.shapes import ModelShape
from swarm_protocol.layer_shape import LayerShape

# MiniMax M3's own names, and those of its transformers class
_INDEX_FIELDS: Final = {
    "num_index_heads": "index_n_heads",
    "index_dim": "index_head_dim",
    "topk_blocks": "index_topk_blocks",
    "block_size": "index_block_size",
}


class Gemma4(Parts):
    """Full attention has heads of its own; the last layers may take keys and values of earlier ones; an MLP beside
    the experts; per-layer embeddings in the small ones."""

    def mixer(self, i: int) -> Block:
        fields = self.fields
        window = self.windows()[i]
        dim = self.head_dim() if window else self._own(i, "head_dim") or fields.get(("global_head_dim",)) or 512
        same = fields.flag("attention_k_eq_v") and not window
        given = self._own(i, "num_key_value_heads") or (fields.get(("num_global_key_value_heads",)) if same else 0)
        kv_heads = given or self.kv_heads()
        shares = i >= self.layers - fields.get(("num_kv_shared_layers",)) > 0
        return blocks.attention(
            self.hidden, self.heads(), kv_heads, dim, window=window, values=not same, shares_cache=shares,
            qk_norm=dim if shares else 2 * dim,
        )  # fmt: skip

    def _own(self, i: int, key: str) -> int:
        """Return the value of `per_layer_config` for one layer; 0: none."""
        listed = self.fields.raw("per_layer_config")
        own = listed.get(str(i), listed.get(i)) if isinstance(listed, dict) else None
        return _count(own.get(key)) if isinstance(own, dict) else 0

    def windows(self) -> list[int]:
        found = super().windows()
        if self.fields.words("layer_types", self.layers) is None:
            found[-1] = 0  # the last layer always sees all
        return found

    def shape(self) -> ModelShape:
        fields = self.fields
        known: dict[Block, Block] = {}
        found = []
        shared_from = self.layers - fields.get(("num_kv_shared_layers",))
        wide = fields.flag("use_double_wide_mlp")
        small = fields.get(("hidden_size_per_layer_input",))
        experts = fields.get(f.EXPERTS) if fields.flag("enable_moe_block") else 0
        for i in range(self.layers):
            width = self.intermediate() * (2 if wide and i >= shared_from and shared_from < self.layers else 1)
            block = self.mixer(i) + blocks.mlp(self.hidden, width) + blocks.norms(4 * self.hidden)
            if experts:
                block += blocks.experts(self.hidden, self.expert_width(), experts, self.active(experts))
                block += blocks.norms(4 * self.hidden)
            if small:
                block += blocks.extra(2 * self.hidden * small) + blocks.norms(self.hidden)
            found.append(known.setdefault(block, block))
        return self.made(self.stand_in(), tuple(found))

    def positions(self) -> int:
        small = self.fields.get(("hidden_size_per_layer_input",))
        each = self.fields.get(("vocab_size_per_layer_input",)) if small else 0
        return self.layers * small * (each + self.hidden) + small

    def stand_in(self) -> LayerShape:
        if self.fields.flag("enable_moe_block"):
            return super().stand_in()
        return LayerShape(
            architecture="llama", hidden=self.hidden, intermediate=self.intermediate(), heads=self.heads(),
            kv_heads=self.kv_heads(), head_dim=self.head_dim(),
        )  # fmt: skip


class MiMoV2(Parts):
    """Windowed layers have heads of their own; values are narrower than keys."""

    def mixer(self, i: int) -> Block:
        need, get = self.fields.need, self.fields.get
        # twice as many as elsewhere, where the configuration does not say (its transformers class never asks)
        windowed_kv_heads = get(("swa_num_key_value_heads",)) or 2 * self.kv_heads()
        kinds = self.fields.numbers("hybrid_layer_pattern", self.layers)
        words = self.fields.words("layer_types", self.layers)
        if kinds is None and words is None:
            raise self.fields.lacks("hybrid_layer_pattern")
        if bool(kinds[i]) if kinds is not None else words is not None and words[i] in WINDOWED:
            heads = get(("swa_num_attention_heads",)) or self.heads()
            dim = get(("swa_head_dim",)) or self.head_dim()
            return blocks.attention(
                self.hidden, heads, windowed_kv_heads, dim,
                get(("swa_v_head_dim", "v_head_dim")) or dim,
                window=need(("sliding_window", "sliding_window_size")), qk_norm=heads,
            )  # fmt: skip
        dim = self.head_dim()
        return blocks.attention(self.hidden, self.heads(), self.kv_heads(), dim, get(("v_head_dim",)) or dim)


class BlockSparse(Parts):
    """MiniMax M3: an indexer of its own in most layers; a step reads the blocks of the context that it chooses."""

    def mixer(self, i: int) -> Block:
        heads, dim = self.heads(), self.head_dim()
        plain = blocks.attention(self.hidden, heads, self.kv_heads(), dim, qk_norm=2 * dim)
        count, width, kept = self._index("num_index_heads"), self._index("index_dim"), self._index("topk_blocks")
        if not self._sparse(i):
            return plain
        cache = plain.caches[0]
        top_k = kept * self._index("block_size")
        choosing = Block(
            matrices=self.hidden * width * (count + 1),
            small=2 * width,
            caches=(Cache(width / 2, flops=2.0 * count * width),),  # one key a token, half of what a K-V pair is
        )
        plain = _with_caches(plain, (Cache(cache.elements, top_k=top_k, flops=cache.flops),))
        return plain + choosing

    def _index(self, key: str) -> int:
        given = self.fields.raw("sparse_attention_config")
        usual = {"num_index_heads": 4, "index_dim": 128, "topk_blocks": 16, "block_size": 128}
        value = given.get(f"sparse_{key}") if isinstance(given, dict) else None
        if value is None:
            value = self.fields.raw(_INDEX_FIELDS[key])
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else usual[key]

    def _sparse(self, i: int) -> bool:
        given = self.fields.raw("sparse_attention_config")
        if isinstance(given, dict):
            if given.get("use_sparse_attention") is False:
                return False
            listed = given.get("sparse_attention_freq")
            if isinstance(listed, list) and len(listed) >= self.layers:
                return bool(listed[i])
        words = self.fields.words("layer_types", self.layers)
        return i not in self.dense_ids() if words is None else "sparse" in words[i]

    def stand_in(self) -> LayerShape:
        return msgspec.structs.replace(super().stand_in(), qk_norm=True)


def _with_caches(block: Block, caches: tuple[Cache, ...]) -> Block:
    return Block(
        matrices=block.matrices,
        mlp_matrices=block.mlp_matrices,
        small=block.small,
        caches=caches,
        state_bytes=block.state_bytes,
    )


class Step3(Parts):
    """Step 3.5 and 3.7: windowed layers may have more heads; a gate for each head."""

    def mixer(self, i: int) -> Block:
        window = self.windows()[i]
        heads, kv_heads = self.heads(), self.kv_heads()
        other = self.fields.raw("attention_other_setting")
        if window and isinstance(other, dict):
            heads = _count(other.get("num_attention_heads")) or heads
            kv_heads = _count(other.get("num_attention_groups")) or kv_heads
        dim = self.head_dim()
        gate = heads if self.fields.flag("use_head_wise_attn_gate") else 0
        return blocks.attention(self.hidden, heads, kv_heads, dim, window=window, gate=gate, qk_norm=2 * dim)


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


class Nas(Decoder):
    """Llama-Nemotron by neural architecture search: each layer has its own attention and MLP, or none."""

    def shape(self) -> ModelShape:
        listed = self.fields.raw("block_configs")
        if not isinstance(listed, list) or len(listed) != self.layers:
            raise self.fields.lacks("block_configs for each layer")
        known: dict[Block, Block] = {}
        found, widths = [], []
        for one in listed:
            block, width = self._block(one if isinstance(one, dict) else {})
            found.append(known.setdefault(block, block))
            widths.append(width)
        usual = LayerShape(
            architecture="llama", hidden=self.hidden, intermediate=max(set(widths), key=widths.count) or self.hidden,
            heads=self.heads(), kv_heads=max(1, self.heads() // 8), head_dim=self.head_dim(),
        )  # fmt: skip
        return self.made(usual, tuple(found))

    def _block(self, one: dict[str, object]) -> tuple[Block, int]:
        attends, feeds = one.get("attention"), one.get("ffn")
        if not isinstance(attends, dict) or not isinstance(feeds, dict):
            raise self.fields.error(f"a block of block_configs has no attention or no ffn; {f.BY_HAND}")
        block = blocks.norms(0)
        heads, dim = self.heads(), self.head_dim()
        if attends.get("replace_with_linear"):
            block += blocks.extra(self.hidden * self.hidden) + blocks.norms(self.hidden)
        elif not attends.get("no_op"):
            group = _count(attends.get("n_heads_in_group"))
            kv_heads = heads // group if group else _count(attends.get("num_key_value_heads"))
            if not kv_heads:
                raise self.fields.error(f"a block of block_configs does not say its KV heads; {f.BY_HAND}")
            block += blocks.attention(self.hidden, heads, kv_heads, dim) + blocks.norms(self.hidden)
        width = 0
        if feeds.get("replace_with_linear"):
            block += blocks.extra(self.hidden * self.hidden) + blocks.norms(self.hidden)
        elif not feeds.get("no_op"):
            width = _count(feeds.get("intermediate_size"))
            if not width:
                factor = feeds.get("ffn_mult")
                if not isinstance(factor, int | float) or not factor > 0:
                    raise self.fields.error(f"a block of block_configs does not say how wide its MLP is; {f.BY_HAND}")
                width = blocks.rounded_up(int(2 * factor * self.hidden / 3), 256)
            block += blocks.mlp(self.hidden, width) + blocks.norms(self.hidden)
        return block, width
