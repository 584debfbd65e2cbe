"""Read families with layers whose state does not grow: linear attention, Mamba, short convolutions, with attention."""

from __future__ import annotations

from typing import Final

from swarm_predict.model import blocks
from swarm_predict.model.blocks import Block
from swarm_predict.model.families import fields as f
from swarm_predict.model.families.decoder import Parts
from swarm_predict.model.shapes import ModelShape
from swarm_protocol.layer_shape import LayerShape

LINEAR: Final = ("linear_attention", "mamba", "conv", "recurrent", "lightning_attention", "kda")
FULL: Final = ("full_attention", "attention", "global")


class Hybrid(Parts):
    """There are two kinds of layers; `growing` says which keep a cache."""

    def mixer(self, i: int) -> Block:
        return self.attention() if self.growing()[i] else self.recurrent()

    def attention(self) -> Block:
        window = self.fields.get(("sliding_window",)) if self.fields.flag("use_sliding_window") else 0
        return blocks.attention(self.hidden, self.heads(), self.kv_heads(), self.head_dim(), window=window)

    def recurrent(self) -> Block:
        raise NotImplementedError

    def growing(self) -> list[bool]:
        for key in ("layer_types", "layers_block_type"):
            words = self.fields.words(key, self.layers)
            if words is not None:
                for word in words:
                    if word not in (*LINEAR, *FULL):
                        raise self.fields.error(f"{key} has {word[:40]!r}, which is not understood; {f.BY_HAND}")
                return [word in FULL for word in words]
        return self.usual()

    def usual(self) -> list[bool]:
        """Return the kinds of layers where the configuration lists none."""
        every = self.fields.get(("full_attention_interval",)) or 4
        return [(i + 1) % every == 0 for i in range(self.layers)]


class GatedDelta(Hybrid):
    """Qwen3-Next, Qwen3.5 and 3.6: gated DeltaNet, and attention with an output gate in every fourth layer."""

    def attention(self) -> Block:
        heads, dim = self.heads(), self.head_dim()
        gated = self.fields.raw("attn_output_gate") is not False
        return blocks.attention(
            self.hidden, heads, self.kv_heads(), dim, gate=heads * dim if gated else 0, qk_norm=2 * dim
        )

    def recurrent(self) -> Block:
        need = self.fields.need
        return blocks.delta_net(
            self.hidden, need(("linear_num_key_heads",)), need(("linear_num_value_heads",)),
            need(("linear_key_head_dim",)), need(("linear_value_head_dim",)), need(("linear_conv_kernel_dim",)),
        )  # fmt: skip


class KimiLinear(Hybrid):
    """Kimi Delta Attention, and latent attention without positions in every fourth layer."""

    def _linear(self, key: str, otherwise: int) -> int:
        given = self.fields.raw("linear_attn_config")
        value = given.get(key) if isinstance(given, dict) else None
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else otherwise

    def growing(self) -> list[bool]:
        given = self.fields.raw("linear_attn_config")
        listed = given.get("full_attn_layers") if isinstance(given, dict) else None
        if isinstance(listed, list):
            full = {i for i in listed if isinstance(i, int)}
            return [i + 1 in full for i in range(self.layers)]
        return super().growing()

    def attention(self) -> Block:
        need, heads = self.fields.need, self.heads()
        value = need(("v_head_dim",))
        gate = self.hidden * heads * value if self.fields.flag("mla_use_output_gate") else 0
        return blocks.latent_attention(
            self.hidden, heads, need(("qk_nope_head_dim",)), need(("qk_rope_head_dim",)), value,
            need(("kv_lora_rank",)), self.fields.get(("q_lora_rank",)), gate=gate,
        )  # fmt: skip

    def recurrent(self) -> Block:
        given = self.fields.raw("linear_attn_config")
        full_gate = isinstance(given, dict) and given.get("use_full_rank_gate") is True
        return blocks.kimi_delta(
            self.hidden, self._linear("num_heads", 32), self._linear("head_dim", 128),
            self._linear("short_conv_kernel_size", 4), full_gate=full_gate,
        )  # fmt: skip

    def head_dim(self) -> int:
        return self.fields.get(("head_dim",)) or self.fields.need(("v_head_dim",))

    def feed(self, plain: bool) -> Block:
        latent = self.fields.get(("routed_expert_hidden_size",))
        if plain or not latent:
            return super().feed(plain)
        width, experts = self.expert_width(), self.fields.need(f.EXPERTS)
        return blocks.experts(
            self.hidden, width, experts, self.active(experts), shared=self.shared_width(width), latent=latent
        )


class Mamba(Hybrid):
    """State-space layers of Mamba 2 with attention (Bamba, Granite 4), or alone (Mamba 2)."""

    def attention(self) -> Block:
        return blocks.attention(self.hidden, self.heads(), self.kv_heads(), self.head_dim())

    def recurrent(self) -> Block:
        fields = self.fields
        heads = fields.need(("mamba_n_heads", "mamba_num_heads", "num_heads"))
        dim = self.state_head_dim(heads)
        return blocks.mamba2(
            self.hidden, heads, dim, fields.get(("mamba_n_groups", "n_groups")) or 1,
            fields.need(("mamba_d_state", "ssm_state_size", "state_size")),
            fields.need(("mamba_d_conv", "conv_kernel")), norm=fields.raw("mamba_rms_norm") is not False,
            bias=fields.flag("mamba_proj_bias", "use_bias"),
        )  # fmt: skip

    def state_head_dim(self, heads: int) -> int:
        given = self.fields.raw("mamba_d_head", "mamba_head_dim")
        if isinstance(given, int) and given > 0:
            return given
        inner = self.fields.get(("mamba_d_ssm",)) or (self.fields.get(("mamba_expand", "expand")) or 2) * self.hidden
        if inner % heads:
            raise self.fields.error(f"{heads} state-space heads do not divide {inner}")
        return inner // heads

    def usual(self) -> list[bool]:
        listed = self.fields.raw("attn_layer_indices")
        full = {i for i in listed if isinstance(i, int)} if isinstance(listed, list) else set()
        return [i in full for i in range(self.layers)]


class GraniteHybrid(Mamba):
    """Granite 4: experts (or none) and a shared MLP in every layer."""

    def feed(self, plain: bool) -> Block:
        shared = self.fields.get(("shared_intermediate_size",))
        experts = self.fields.get(f.EXPERTS)
        if not experts:
            return blocks.mlp(self.hidden, shared or self.intermediate())
        return blocks.experts(self.hidden, self.intermediate(), experts, self.active(experts), shared=shared)

    def dense_ids(self) -> tuple[int, ...]:
        return ()


class FalconH1(Mamba):
    """Attention and a state-space layer side by side, in every layer."""

    def mixer(self, i: int) -> Block:
        return self.attention() + self.recurrent()

    def state_head_dim(self, heads: int) -> int:
        inner = self.fields.get(("mamba_d_ssm",)) or (self.fields.get(("mamba_expand",)) or 2) * self.hidden
        return inner // heads if inner % heads == 0 else super().state_head_dim(heads)


class Jamba(Hybrid):
    """State-space layers of Mamba 1, an attention layer in every eighth, experts in every second."""

    def recurrent(self) -> Block:
        fields, hidden = self.fields, self.hidden
        inner = (fields.get(("mamba_expand",)) or 2) * hidden
        rank = fields.raw("mamba_dt_rank")
        ranks = rank if isinstance(rank, int) else blocks.rounded_up(hidden / 16, 1)
        state = fields.need(("mamba_d_state",))
        return blocks.mamba1(hidden, inner, state, fields.need(("mamba_d_conv",)), ranks, norms=ranks + 2 * state)

    def usual(self) -> list[bool]:
        period, offset = self.fields.get(("attn_layer_period",)) or 8, self.fields.get(("attn_layer_offset",))
        return [i % period == offset for i in range(self.layers)]

    def dense_ids(self) -> tuple[int, ...]:
        period, offset = self.fields.get(("expert_layer_period",)) or 2, self.fields.get(("expert_layer_offset",))
        return tuple(i for i in range(self.layers) if i % period != offset)


class MambaOnly(Mamba):
    """Mamba, Mamba 2 and Falcon Mamba: a mixer and nothing else in each layer."""

    def shape(self) -> ModelShape:
        block = self.recurrent() + blocks.norms(self.hidden)
        return self.made(self.stand_in(), (block,) * self.layers)

    def recurrent(self) -> Block:
        fields = self.fields
        if fields.kind == "mamba2":
            return super().recurrent()
        inner = fields.get(("intermediate_size",)) or (fields.get(("expand",)) or 2) * self.hidden
        rank = fields.raw("time_step_rank")
        ranks = rank if isinstance(rank, int) else blocks.rounded_up(self.hidden / 16, 1)
        return blocks.mamba1(
            self.hidden, inner, fields.need(("state_size",)), fields.need(("conv_kernel",)), ranks,
            bias=fields.flag("use_bias"),
        )  # fmt: skip

    def stand_in(self) -> LayerShape:
        width = self.hidden
        return LayerShape(
            architecture="llama", hidden=self.hidden, intermediate=width, heads=max(1, self.hidden // 64),
            kv_heads=max(1, self.hidden // 64), head_dim=64,
        )  # fmt: skip


class ShortConvolutions(Hybrid):
    """LFM2: gated short convolutions, attention in some layers."""

    def recurrent(self) -> Block:
        return blocks.short_convolution(self.hidden, self.fields.need(("conv_L_cache",)))

    def attention(self) -> Block:
        dim = self.head_dim()
        return blocks.attention(self.hidden, self.heads(), self.kv_heads(), dim, qk_norm=2 * dim)

    def usual(self) -> list[bool]:
        listed = self.fields.raw("full_attn_idxs")
        if not isinstance(listed, list):
            raise self.fields.lacks("layer_types")
        return [i in listed for i in range(self.layers)]

    def intermediate(self) -> int:
        width = super().intermediate()
        if self.fields.raw("block_auto_adjust_ff_dim") is not True:
            return width
        width = int(2 * width / 3 * float(self.fields.raw("block_ffn_dim_multiplier") or 1))
        return blocks.rounded_up(width, self.fields.get(("block_multiple_of",)) or 256)


class Lightning(Hybrid):
    """MiniMax 01 and M1: lightning attention, softmax attention in every eighth layer."""

    def recurrent(self) -> Block:
        return blocks.lightning(self.hidden, self.heads(), self.head_dim())

    def growing(self) -> list[bool]:
        kinds = self.fields.numbers("attn_type_list", self.layers)
        return [bool(kind) for kind in kinds] if kinds is not None else super().growing()

    def usual(self) -> list[bool]:
        return [(i + 1) % 2 == 0 for i in range(self.layers)]


class NemotronH(Mamba):
    """Nemotron-H and Nemotron 3: each layer is one thing, a mixer or an MLP, as a string of letters says."""

    KINDS: Final = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}

    def count_layers(self) -> int:
        self.words = self._words()
        said = self.fields.get(f.LAYERS, f.MAX_LAYERS) if any(key in self.fields.config for key in f.LAYERS) else 0
        if len(self.words) != (said or len(self.words)) or not 0 < len(self.words) <= f.MAX_LAYERS:
            raise self.fields.error(
                f"the layer pattern has {len(self.words)} layers, num_hidden_layers {said}; {f.BY_HAND}"
            )
        return len(self.words)

    def _words(self) -> list[str]:
        """Return what each layer is."""
        fields = self.fields
        pattern = fields.raw("hybrid_override_pattern")
        listed = fields.raw("layers_block_type", "layer_types")
        if isinstance(listed, list):
            words = [{"linear_attention": "mamba", "full_attention": "attention"}.get(str(w), str(w)) for w in listed]
        elif isinstance(pattern, str):
            words = [self.KINDS.get(letter, letter) for letter in pattern]
        else:
            raise fields.lacks("hybrid_override_pattern")
        if wrong := set(words) - set(self.KINDS.values()):
            raise fields.error(f"the layer pattern has {min(wrong)[:40]!r}, which is not understood; {f.BY_HAND}")
        return words

    def shape(self) -> ModelShape:
        each = {word: self.part(word) + blocks.norms(self.hidden) for word in set(self.words)}
        return self.made(self.stand_in(), tuple(each[word] for word in self.words))

    def part(self, word: str) -> Block:
        if word == "mamba":
            return self.recurrent()
        if word == "attention":
            return self.attention()
        return self.feed(word == "mlp")

    def feed(self, plain: bool) -> Block:
        fields = self.fields
        if plain:
            return blocks.mlp(self.hidden, self.intermediate(), gated=False)
        experts, width = fields.need(f.EXPERTS), self.expert_width()
        return blocks.experts(
            self.hidden, width, experts, self.active(experts), shared=self.shared_width(width), gated=False,
            latent=fields.get(("moe_latent_size",)),
        )  # fmt: skip

    def shared_width(self, width: int) -> int:
        count = self.fields.get(("n_shared_experts",))
        return self.fields.get(("moe_shared_expert_intermediate_size",)) or width * count

    def head_dim(self) -> int:
        return self.fields.get(("head_dim", "attention_head_dim")) or self.hidden // self.heads()
