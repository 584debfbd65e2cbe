"""Read DeepSeek's family: latent attention (MLA), sparse attention by an indexer (DSA), DeepSeek V4's compressed
caches."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from swarm_predict.model import blocks
from swarm_predict.model.blocks import Block
from swarm_predict.model.families import fields as f
from swarm_predict.model.families.decoder import Decoder, Parts
from swarm_predict.model.kv_cache import Cache
from swarm_predict.model.shapes import ModelShape
from swarm_protocol.layer_shape import LayerShape


class Latent(Decoder):
    """MLA in every layer; `index_topk` makes it sparse."""

    def head_dim(self) -> int:
        return self.fields.need(("qk_nope_head_dim",))

    def kv_heads(self) -> int:
        return self.heads()

    def _layer(self) -> LayerShape:
        fields = self.fields
        if not fields.get(("kv_lora_rank",)):
            raise fields.error("config.json has no kv_lora_rank")
        return msgspec.structs.replace(
            super()._layer(),
            architecture="deepseek",
            bias=False,
            kv_lora_rank=fields.need(("kv_lora_rank",)),
            q_lora_rank=fields.get(("q_lora_rank",)),
            rope_head_dim=fields.need(("qk_rope_head_dim",)),
            v_head_dim=fields.get(("v_head_dim",)) or self.hidden // self.heads(),
        )

    def windows(self) -> list[int]:
        return [0] * self.layers

    def shape(self) -> ModelShape:
        plain = super().shape()
        top_k = self.fields.get(("index_topk",))
        if not top_k:
            return plain
        heads, dim = self.fields.need(("index_n_heads",)), self.fields.need(("index_head_dim",))
        indexer = blocks.indexer(self.hidden, heads, dim, plain.layer.q_lora_rank or self.hidden)
        kinds = self.indexers()
        known: dict[tuple[Block, str], Block] = {}
        found = []
        for i, block in enumerate(plain.blocks):
            key = (block, kinds[i])
            if key not in known:
                caches = tuple(_sparse(cache, top_k) for cache in block.caches)
                known[key] = _with(block, caches, indexer if kinds[i] == "full" else None)
            found.append(known[key])
        return self.made(plain.layer, tuple(found), plain.dense_ids, plain.dense_layer)

    def indexers(self) -> list[str]:
        """Return which layers choose for themselves, and which use the choice of the layer before."""
        fields, layers = self.fields, self.layers
        if (words := fields.words("indexer_types", layers)) is not None:
            return words
        every = fields.get(("index_topk_freq",)) or 1
        if every == 1:
            return ["full"] * layers
        offset = fields.get(("index_skip_topk_offset",))
        return ["full" if max(i - offset + 1, 0) % every == 0 else "shared" for i in range(layers)]


def _sparse(cache: Cache, top_k: int) -> Cache:
    return Cache(cache.elements, top_k=top_k, flops=cache.flops)


def _with(block: Block, caches: tuple[Cache, ...], more: Block | None) -> Block:
    """Return the layer with other caches and, where it chooses itself, the indexer; no LayerShape describes it
    fully."""
    made = Block(
        matrices=block.matrices,
        mlp_matrices=block.mlp_matrices,
        small=block.small,
        experts=block.experts,
        experts_active=block.experts_active,
        expert_matrices=block.expert_matrices,
        caches=caches,
    )
    return made if more is None else made + more


class CompressedAttention(Parts):
    """DeepSeek V4: one shared key-value head, a window, and in addition entries that stand for `ratio` tokens each."""

    def mixer(self, i: int) -> Block:
        fields, hidden = self.fields, self.hidden
        heads, dim = self.heads(), fields.need(("head_dim",))
        rank, groups, out = fields.need(("q_lora_rank",)), fields.need(("o_groups",)), fields.need(("o_lora_rank",))
        ratio = self.ratios()[i]
        matrices = rank * (hidden + heads * dim) + hidden * dim + groups * out * (heads * dim // groups + hidden)
        flops = 4.0 * heads * dim
        block = Block(
            matrices=matrices,
            small=heads + rank + dim,
            caches=(Cache(dim, window=fields.need(("sliding_window",)), flops=flops),),
        )
        streams = fields.get(("hc_mult",))
        mixes = (2 + streams) * streams
        block += blocks.norms(2 * (mixes * streams * hidden + mixes + 3))  # hyper-connections, before both halves
        if not ratio:
            return block
        overlap = 2 if ratio == 4 else 1  # the shorter ones overlap
        top_k = fields.need(("index_topk",)) if ratio == 4 else 0
        block += Block(
            matrices=2 * hidden * dim * overlap,
            small=ratio * dim * overlap + dim,
            caches=(Cache(dim, every=ratio, top_k=top_k, flops=flops),),
        )
        if ratio == 4:
            n, width = fields.need(("index_n_heads",)), fields.need(("index_head_dim",))
            block += Block(
                matrices=2 * hidden * width * overlap + rank * n * width + hidden * n,
                small=ratio * width * overlap + width,
                caches=(Cache((width + 4) / 2, every=ratio, flops=2.0 * n * width),),
            )
        return block

    def ratios(self) -> list[int]:
        fields, layers = self.fields, self.layers
        listed = fields.numbers("compress_ratios", layers)
        if listed is not None:
            return listed
        words = fields.words("layer_types", layers)
        if words is None:
            raise fields.lacks("compress_ratios")
        rates = fields.raw("compress_rates")
        usual = {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128, "sliding_attention": 0}
        if isinstance(rates, dict):
            usual |= {str(word): rate for word, rate in rates.items() if isinstance(rate, int) and rate > 0}
        if wrong := set(words) - set(usual):
            raise fields.error(f"layer_types has {min(wrong)[:40]!r}, which is not understood; {f.BY_HAND}")
        return [usual[word] for word in words]

    def kv_heads(self) -> int:
        return 1

    def intermediate(self) -> int:
        return self.fields.need(f.EXPERT_WIDTH)

    def dense_ids(self) -> tuple[int, ...]:
        return ()

    def made(self, *args: object, **more: object) -> ModelShape:
        found = super().made(*args, **more)  # type: ignore[arg-type]
        streams = self.fields.get(("hc_mult",)) or 1
        extra = streams * streams * self.hidden + streams + 1
        return replace(found, extra_params=extra, width=float(streams))
