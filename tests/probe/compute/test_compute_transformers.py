"""Each kind of layer gives what the same layer of Hugging Face transformers gives with the same weights.

One layer, small widths, float32: a prompt in one go, and then token by token. transformers is a dependency of this
test alone; where it is missing the test is skipped.
"""

from __future__ import annotations

import msgspec
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from swarm_probe.compute.layers.attention import GroupedAttention, LatentAttention  # noqa: E402 - see above
from swarm_probe.compute.layers.decoder_layer import DecoderLayer, build_layers  # noqa: E402
from swarm_probe.compute.layers.matrices import Linear  # noqa: E402
from swarm_probe.compute.layers.mlp import Experts, Mlp  # noqa: E402
from swarm_protocol.layer_shape import LayerShape  # noqa: E402

TOKENS = 11
ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
DIMS = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
GROUPED = {
    **DIMS, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 24, "rms_norm_eps": 1e-5,
    "rope_parameters": ROPE,
}  # fmt: skip
ROUTED = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}

LLAMA = LayerShape(architecture="llama", hidden=32, intermediate=24, heads=4, kv_heads=2, head_dim=8)
MIXTRAL = msgspec.structs.replace(LLAMA, architecture="mixtral", experts=4, experts_active=2)
PLAIN = msgspec.structs.replace(LLAMA, gated_mlp=False, kv_heads=4)
LATENT = LayerShape(
    architecture="deepseek", hidden=32, intermediate=24, heads=4, kv_heads=4, head_dim=8, kv_lora_rank=16,
    q_lora_rank=12, rope_head_dim=4, v_head_dim=6, experts=4, experts_active=2, shared_experts=1,
)  # fmt: skip

# name: (shape, model_type, config)
CASES: dict[str, tuple[LayerShape, str, dict[str, object]]] = {
    "llama": (LLAMA, "llama", GROUPED),
    "mistral": (LLAMA, "mistral", GROUPED),
    "qwen2": (msgspec.structs.replace(LLAMA, bias=True), "qwen2", GROUPED),
    "qwen3": (msgspec.structs.replace(LLAMA, qk_norm=True), "qwen3", GROUPED),
    "mixtral": (MIXTRAL, "mixtral", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": (
        msgspec.structs.replace(MIXTRAL, qk_norm=True),
        "qwen3_moe",
        {**GROUPED, **ROUTED, "num_experts": 4, "norm_topk_prob": True},
    ),
    "gpt_oss": (
        msgspec.structs.replace(MIXTRAL, bias=True, sinks=True),
        "gpt_oss",
        {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["full_attention"]},
    ),
    "deepseek_v3": (
        LATENT,
        "deepseek_v3",
        {**DIMS, **ROUTED, "num_key_value_heads": 4, "intermediate_size": 24, "kv_lora_rank": 16, "q_lora_rank": 12,
         "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 6, "n_routed_experts": 4, "n_shared_experts": 1,
         "n_group": 1, "topk_group": 1, "first_k_dense_replace": 0, "rope_interleave": False,
         "rope_parameters": ROPE, "rms_norm_eps": 1e-5},
    ),
    "falcon, one KV head": (
        msgspec.structs.replace(PLAIN, architecture="falcon", kv_heads=1),
        "falcon",
        {**DIMS, "ffn_hidden_size": 24, "multi_query": True, "parallel_attn": True, "bias": False, "alibi": False},
    ),
    "falcon, KV groups": (
        msgspec.structs.replace(PLAIN, architecture="falcon", kv_heads=2),
        "falcon",
        {**DIMS, "ffn_hidden_size": 24, "num_kv_heads": 2, "new_decoder_architecture": True,
         "num_ln_in_parallel_attn": 1, "bias": False, "alibi": False},
    ),
    "bloom": (
        msgspec.structs.replace(PLAIN, architecture="bloom", bias=True, intermediate=128),
        "bloom",
        {"vocab_size": 32, "hidden_size": 32, "n_layer": 1, "n_head": 4},
    ),
    "gpt2": (
        msgspec.structs.replace(PLAIN, architecture="gpt2", bias=True),
        "gpt2",
        {"vocab_size": 32, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_inner": 24, "bos_token_id": 1,
         "eos_token_id": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_layer_gives_what_transformers_gives(name: str) -> None:
    shape, kind, config = CASES[name]
    (layer,) = build_layers(shape, 1, capacity=TOKENS, dtype=torch.float32, device="cpu", seed=3)
    x = torch.randn(2, TOKENS, shape.hidden, generator=torch.Generator().manual_seed(1))
    wanted = _theirs(layer, kind, config, x)
    cache = layer.new_cache(2, TOKENS)
    torch.testing.assert_close(layer.forward(x, cache, 0), wanted, rtol=2e-5, atol=2e-5)
    cache = layer.new_cache(2, TOKENS)
    one_by_one = [layer.forward(x[:, at : at + 1], cache, at) for at in range(TOKENS)]
    torch.testing.assert_close(torch.cat(one_by_one, 1), wanted, rtol=2e-5, atol=2e-5)


def _theirs(layer: DecoderLayer, kind: str, config: dict[str, object], x: torch.Tensor) -> torch.Tensor:
    """The output of their layer with our weights in it."""
    made = transformers.AutoConfig.for_model(kind, **config)
    made._attn_implementation = "eager"
    model = transformers.AutoModel.from_config(made).eval()
    theirs = model.h[0] if hasattr(model, "h") else model.layers[0]
    state = {key: value for key, value in _weights(layer, kind).items() if value is not None}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert {key for key in missing if not key.endswith("e_score_correction_bias")} == set()
    caught: list[torch.Tensor] = []
    theirs.register_forward_hook(lambda _m, _i, out: caught.append(out[0] if isinstance(out, tuple) else out))
    if kind == "bloom":  # norms what comes in; GPT-2 adds positions to it
        model.word_embeddings_layernorm = torch.nn.Identity()
    if kind == "gpt2":
        torch.nn.init.zeros_(model.wpe.weight)
    with torch.no_grad():
        model(inputs_embeds=x, use_cache=False)
    return caught[0]


def _weights(layer: DecoderLayer, kind: str) -> dict[str, torch.Tensor | None]:
    """Ours by their names."""
    if kind in ("falcon", "bloom", "gpt2"):
        return _fused(layer, kind)
    found: dict[str, torch.Tensor | None] = {
        "input_layernorm.weight": layer.norm_1,
        "post_attention_layernorm.weight": layer.norm_2,
    }
    attention = layer.attention
    if isinstance(attention, LatentAttention):
        assert attention.q_down is not None
        found |= {
            "self_attn.q_a_proj.weight": attention.q_down.weight,
            "self_attn.q_a_layernorm.weight": attention.q_norm,
            "self_attn.q_b_proj.weight": attention.q_up.weight,
            "self_attn.kv_a_proj_with_mqa.weight": attention.kv_down.weight,
            "self_attn.kv_a_layernorm.weight": attention.kv_norm,
            "self_attn.kv_b_proj.weight": attention.kv_up.flatten(0, 1),
            "self_attn.o_proj.weight": attention.out.weight,
        }
    else:
        shape = layer.shape
        sizes = [n * shape.head_dim for n in (shape.heads, shape.kv_heads, shape.kv_heads)]
        for name, part in zip("qkv", attention.qkv.weight.split(sizes), strict=True):
            found[f"self_attn.{name}_proj.weight"] = part
        if attention.qkv._bias is not None:
            for name, part in zip("qkv", attention.qkv._bias.split(sizes), strict=True):
                found[f"self_attn.{name}_proj.bias"] = part
        found |= {
            "self_attn.o_proj.weight": attention.out.weight,
            "self_attn.o_proj.bias": attention.out._bias,
            "self_attn.q_norm.weight": attention.q_norm,
            "self_attn.k_norm.weight": attention.k_norm,
            "self_attn.sinks": attention.sinks,
        }
    if isinstance(layer.mlp, Mlp):
        gate, up = layer.mlp.up.weight.chunk(2)
        return found | {
            "mlp.gate_proj.weight": gate,
            "mlp.up_proj.weight": up,
            "mlp.down_proj.weight": layer.mlp.down.weight,
        }
    return found | _experts(layer.mlp, kind)


def _experts(mlp: Experts, kind: str) -> dict[str, torch.Tensor | None]:
    up = torch.stack([expert.up.weight for expert in mlp.experts])
    down = torch.stack([expert.down.weight for expert in mlp.experts])
    if kind == "gpt_oss":  # transposed, gate and up interleaved
        up_bias = torch.stack([_bias(expert.up) for expert in mlp.experts])
        return {
            "mlp.router.weight": mlp.router.weight,
            "mlp.router.bias": mlp.router._bias,
            "mlp.experts.gate_up_proj": torch.stack(up.chunk(2, dim=1), dim=2).flatten(1, 2).transpose(1, 2),
            "mlp.experts.gate_up_proj_bias": torch.stack(up_bias.chunk(2, dim=1), dim=2).flatten(1),
            "mlp.experts.down_proj": down.transpose(1, 2),
            "mlp.experts.down_proj_bias": torch.stack([_bias(expert.down) for expert in mlp.experts]),
        }
    found: dict[str, torch.Tensor | None] = {
        "mlp.gate.weight": mlp.router.weight,
        "mlp.experts.gate_up_proj": up,
        "mlp.experts.down_proj": down,
    }
    for shared in mlp.shared:
        gate, wide = shared.up.weight.chunk(2)
        found |= {
            "mlp.shared_experts.gate_proj.weight": gate,
            "mlp.shared_experts.up_proj.weight": wide,
            "mlp.shared_experts.down_proj.weight": shared.down.weight,
        }
    return found


def _fused(layer: DecoderLayer, kind: str) -> dict[str, torch.Tensor | None]:
    """Falcon's, BLOOM's and GPT-2's names; q, k and v are one matrix in each, in three orders."""
    shape, attention = layer.shape, layer.attention
    assert isinstance(attention, GroupedAttention)
    assert isinstance(layer.mlp, Mlp)
    order = torch.arange(shape.heads + 2 * shape.kv_heads)
    if kind != "gpt2" and shape.kv_heads > 1:  # each group: its queries, its key, its value
        queries = order[: shape.heads].view(shape.kv_heads, -1)
        keys, values = order[shape.heads :].view(2, shape.kv_heads)
        order = torch.cat((queries, keys[:, None], values[:, None]), 1).flatten()
    rows = (order[:, None] * shape.head_dim + torch.arange(shape.head_dim)).flatten()
    qkv, bias = attention.qkv.weight[rows], None if attention.qkv._bias is None else attention.qkv._bias[rows]
    if kind == "gpt2":
        return {
            "ln_1.weight": layer.norm_1, "ln_1.bias": layer.norm_1_bias,
            "ln_2.weight": layer.norm_2, "ln_2.bias": layer.norm_2_bias,
            "attn.c_attn.weight": qkv.T, "attn.c_attn.bias": bias,
            "attn.c_proj.weight": attention.out.weight.T, "attn.c_proj.bias": attention.out._bias,
            "mlp.c_fc.weight": layer.mlp.up.weight.T, "mlp.c_fc.bias": layer.mlp.up._bias,
            "mlp.c_proj.weight": layer.mlp.down.weight.T, "mlp.c_proj.bias": layer.mlp.down._bias,
        }  # fmt: skip
    return {
        "input_layernorm.weight": layer.norm_1, "input_layernorm.bias": layer.norm_1_bias,
        "post_attention_layernorm.weight": layer.norm_2, "post_attention_layernorm.bias": layer.norm_2_bias,
        "self_attention.query_key_value.weight": qkv, "self_attention.query_key_value.bias": bias,
        "self_attention.dense.weight": attention.out.weight, "self_attention.dense.bias": attention.out._bias,
        "mlp.dense_h_to_4h.weight": layer.mlp.up.weight, "mlp.dense_h_to_4h.bias": layer.mlp.up._bias,
        "mlp.dense_4h_to_h.weight": layer.mlp.down.weight, "mlp.dense_4h_to_h.bias": layer.mlp.down._bias,
    }  # fmt: skip


def _bias(linear: Linear) -> torch.Tensor:
    assert linear._bias is not None
    return linear._bias
