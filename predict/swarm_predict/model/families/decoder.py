"""Read decoders of attention and an MLP, plain or of experts: most families.

A family's Traits say what the configuration does not; which layers have a window or experts is read from whichever of
the many spellings is there. Families with other layers derive from Decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from swarm_predict.model import blocks
from swarm_predict.model.blocks import Block, block_of
from swarm_predict.model.families import fields as f
from swarm_predict.model.families.fields import Fields
from swarm_predict.model.shapes import ModelShape
from swarm_protocol.layer_shape import Architecture, LayerShape

WINDOWED: Final = ("sliding_attention", "sliding", "local", "sliding_window", "local_attention", "window")
_FIRST: Final = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", "moe_first_k_dense")
CHUNKED: Final = ("chunked_attention",)


@dataclass(frozen=True, slots=True)
class Traits:
    """The meaning of a model_type beyond its configuration."""

    architecture: Architecture = "llama"
    gated: bool = True
    bias: bool = False
    qk_norm: bool = False
    sinks: bool = False
    tied: bool = False  # where neither the configuration nor its class says
    head_dim: int = 0  # the same; 0: hidden / heads
    window_every: int = 0  # n > 0: all layers but every n-th look through the window
    window_used: bool = False  # `sliding_window` counts, for all layers, where nothing else says which
    experts_default_active: int = 2
    dense_first: int = 0  # layers with a plain MLP before those of experts, where nothing else says


class Decoder:
    def __init__(self, fields: Fields, traits: Traits) -> None:
        self.fields, self.traits = fields, traits
        self.layers = self.count_layers()
        self.hidden = fields.said(f.HIDDEN)
        self.beside = 0  # width of a shared MLP that is not a multiple of the experts'

    def count_layers(self) -> int:
        return self.fields.said(f.LAYERS, f.MAX_LAYERS)

    def shape(self) -> ModelShape:
        usual, dense_ids, dense = self._with_experts(self._layer())
        windows = self.windows()
        known: dict[tuple[LayerShape, int], Block] = {}
        found = []
        plain = frozenset(dense_ids)
        for i in range(self.layers):
            layer = dense if dense is not None and i in plain else usual
            found.append(known.setdefault((layer, windows[i]), self.block(layer, windows[i])))
        return self.made(usual, tuple(found), dense_ids, dense, windows)

    def made(
        self, usual: LayerShape, found: tuple[Block, ...], dense_ids: tuple[int, ...] = (),
        dense: LayerShape | None = None, windows: list[int] | None = None,
    ) -> ModelShape:  # fmt: skip
        window = max(windows or [0])
        tied = self.fields.raw("tie_word_embeddings")
        return ModelShape(
            name=self.fields.name,
            layers=self.layers,
            layer=usual,
            vocab=self.fields.need(("vocab_size", "padded_vocab_size")),
            tied=tied if isinstance(tied, bool) else self.traits.tied,
            window=window,
            windowed_layers=sum(1 for w in windows or [] if w),
            dense_ids=dense_ids if dense is not None else (),
            dense_layer=dense,
            source=f"config.json, model_type {self.fields.kind}",
            blocks=found,
            extra_params=self.positions(),
            hidden_size=self.hidden,
        )

    def block(self, layer: LayerShape, window: int) -> Block:
        block = block_of(layer, window)
        return block + blocks.mlp(self.hidden, self.beside) if self.beside and layer.experts else block

    def positions(self) -> int:
        """Return the elements outside of layers, embedding and head: learned positions."""
        if self.fields.kind in ("gpt2", "gpt_bigcode"):
            return self.fields.get(("n_positions",)) * self.hidden
        if self.fields.kind == "opt":
            return (self.fields.get(("max_position_embeddings",)) + 2) * self.hidden
        return 0

    # -- attention

    def heads(self) -> int:
        return self.fields.need(f.HEADS)

    def head_dim(self) -> int:
        heads = self.heads()
        head_dim = self.fields.get(("head_dim", "kv_channels", "attention_head_dim")) or self.traits.head_dim
        if not head_dim:
            if self.hidden % heads:
                raise self.fields.error(f"{heads} heads do not divide hidden_size {self.hidden}; give head_dim")
            head_dim = self.hidden // heads
        return head_dim

    def kv_heads(self) -> int:
        fields, heads = self.fields, self.heads()
        if fields.kind in ("falcon", "RefinedWeb", "RefinedWebModel", "gpt_bigcode"):
            new = fields.flag("new_decoder_architecture") or fields.kind == "RefinedWeb"
            if not new:
                one = fields.raw("multi_query")
                return 1 if one is True or (one is None and fields.kind != "falcon") else heads
        count = fields.get(f.KV_HEADS) or heads
        if count > heads or heads % count:
            raise fields.error(f"{count} KV heads do not divide {heads} heads")
        return count

    def _layer(self) -> LayerShape:
        """Return attention and the plain MLP."""
        fields, traits = self.fields, self.traits
        heads, head_dim = self.heads(), self.head_dim()
        intermediate = self.intermediate()
        return LayerShape(
            architecture=traits.architecture,
            hidden=self.hidden,
            intermediate=intermediate,
            heads=heads,
            kv_heads=self.kv_heads(),
            head_dim=head_dim,
            gated_mlp=traits.gated,
            bias=traits.bias or fields.flag("attention_bias", "qkv_bias"),
            qk_norm=traits.qk_norm,
            sinks=traits.sinks,
        )

    def intermediate(self) -> int:
        width = self.fields.get(f.INTERMEDIATE)
        if not width:
            if self.traits.gated:
                raise self.fields.error(f"config.json has no {f.INTERMEDIATE[0]}")
            width = 4 * self.hidden
        return width

    # -- experts

    def active(self, experts: int) -> int:
        active = self.fields.get(f.ACTIVE) or self.traits.experts_default_active
        if active > experts:
            raise self.fields.error(f"{active} of {experts} experts a token is more than there are")
        return active

    def shared_width(self, width: int) -> int:
        """Return the width of the MLP that every token passes, in addition to its experts."""
        fields = self.fields
        if extra := fields.get(("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
                                "share_expert_dim", "shared_intermediate_size")):  # fmt: skip
            return extra
        if fields.kind in ("llama4", "llama4_text"):
            return width
        shared = fields.get(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"))
        return shared * (fields.get(("moe_shared_expert_width",)) or width)

    def expert_width(self) -> int:
        return self.fields.get(f.EXPERT_WIDTH) or self.intermediate()

    def _with_experts(self, plain: LayerShape) -> tuple[LayerShape, tuple[int, ...], LayerShape | None]:
        """Return (the usual layer, which layers keep a plain MLP, that plain layer)."""
        experts = self.fields.get(f.EXPERTS)
        if not experts:
            return plain, (), None
        width = self.expert_width()
        shared_width = self.shared_width(width)
        if shared_width % width:  # no LayerShape says it: counted beside the layer
            self.beside, shared_width = shared_width, 0
        architecture: Architecture = "mixtral" if plain.architecture == "llama" else plain.architecture
        usual = msgspec.structs.replace(
            plain,
            architecture=architecture,
            intermediate=width,
            experts=experts,
            experts_active=self.active(experts),
            shared_experts=shared_width // width,
        )
        dense = self.dense_ids()
        plain = msgspec.structs.replace(plain, intermediate=self.dense_width())
        if len(dense) == self.layers:
            return plain, (), None
        return usual, dense, plain if dense else None

    def dense_width(self) -> int:
        return self.fields.get(("intermediate_size_mlp", "dense_intermediate_size")) or self.intermediate()

    def dense_ids(self) -> tuple[int, ...]:
        """Return the layers with a plain MLP among layers of experts."""
        fields, layers = self.fields, self.layers
        if (words := fields.words("mlp_layer_types", layers)) is not None:
            return tuple(i for i, word in enumerate(words) if word == "dense")
        if isinstance(fields.raw("moe_layer_freq"), list):
            kinds = fields.numbers("moe_layer_freq", layers) or []
            return tuple(i for i, kind in enumerate(kinds) if not kind)
        listed = fields.raw("moe_layers", "moe_layers_enum")
        if isinstance(listed, str):
            listed = [int(part) for part in listed.split(",") if part.strip().isdecimal()]
        if isinstance(listed, list) and listed:
            with_experts = {i for i in listed if isinstance(i, int)}
            return tuple(i for i in range(layers) if i not in with_experts)
        first = fields.get(_FIRST)
        if not any(key in fields.config for key in _FIRST):
            first = first or self.traits.dense_first
        step = (
            fields.get(("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq", "moe_layer_interval"))
            or 1
        )
        only = fields.raw("mlp_only_layers")
        plain = {i for i in only if isinstance(i, int)} if isinstance(only, list) else set()
        return tuple(i for i in range(layers) if i < first or i in plain or (step > 1 and self._between(i, step)))

    def _between(self, i: int, step: int) -> bool:
        return bool((i + 1) % step) if self.fields.raw("moe_layer_freq") is None else bool(i % step)

    # -- windows

    def windows(self) -> list[int]:
        """Return the tokens that each layer looks back; 0: all."""
        fields, layers = self.fields, self.layers
        window = fields.get(("sliding_window", "sliding_window_size", "window_size", "attention_window_size"))
        chunk = fields.get(("attention_chunk_size",))
        if (words := fields.words("layer_types", layers)) is not None:
            return [window if w in WINDOWED else chunk if w in CHUNKED else 0 for w in words]
        if self.fields.kind in ("llama4", "llama4_text"):
            rope = fields.numbers("no_rope_layers", layers)  # 1: rotary, and in chunks
            if not rope:
                step = fields.get(("no_rope_layer_interval",)) or 4
                rope = [int((i + 1) % step != 0) for i in range(layers)]
            return [chunk if r else 0 for r in rope]
        if not window or fields.raw("use_sliding_window") is False:
            return [0] * layers
        if (pattern := fields.raw("sliding_window_pattern")) is not None and isinstance(pattern, str):
            return (
                [window if pattern[i % len(pattern)] == "L" else 0 for i in range(layers)] if pattern else [0] * layers
            )
        every = fields.get(("sliding_window_pattern", "_sliding_window_pattern")) or self.traits.window_every
        if every > 1:
            return [window if (i + 1) % every else 0 for i in range(layers)]
        if fields.raw("use_sliding_window") is True:  # Qwen2: the layers from max_window_layers on
            start = fields.get(("max_window_layers",))
            return [window if i >= start else 0 for i in range(layers)]
        return [window if self.traits.window_used else 0] * layers


class Parts(Decoder):
    """Layers assembled of parts, each with its own mixer: `mixer(i)` and `feed(i)` return them."""

    def shape(self) -> ModelShape:
        plain = frozenset(self.dense_ids()) if self.fields.get(f.EXPERTS) else frozenset(range(self.layers))
        known: dict[Block, Block] = {}
        found = []
        for i in range(self.layers):
            block = self.mixer(i) + self.feed(i in plain) + blocks.norms(2 * self.hidden)
            found.append(known.setdefault(block, block))
        return self.made(self.stand_in(), tuple(found))

    def mixer(self, i: int) -> Block:
        raise NotImplementedError

    def feed(self, plain: bool) -> Block:
        fields, gated = self.fields, self.traits.gated
        if plain:
            return blocks.mlp(self.hidden, self.dense_width(), gated=gated)
        experts, width = fields.need(f.EXPERTS), self.expert_width()
        return blocks.experts(
            self.hidden, width, experts, self.active(experts),
            shared=self.shared_width(width), gated=gated, shared_gate=fields.kind.startswith("qwen"),
        )  # fmt: skip

    def stand_in(self) -> LayerShape:
        """Return what a probe times in place of layers that it cannot build: plain attention, and the layer's own
        MLP."""
        experts = self.fields.get(f.EXPERTS)
        heads = self.heads()
        kv_heads = self.kv_heads()
        plain = LayerShape(
            architecture="mixtral" if experts else "llama",
            hidden=self.hidden,
            intermediate=self.expert_width() if experts else self.intermediate(),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=self.head_dim(),
            gated_mlp=self.traits.gated,
        )
        if not experts:
            return plain
        shared = round(self.shared_width(plain.intermediate) / plain.intermediate)
        return msgspec.structs.replace(
            plain, experts=experts, experts_active=self.active(experts), shared_experts=shared
        )
