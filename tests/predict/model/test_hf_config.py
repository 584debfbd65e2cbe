"""config.json of real models, cut to the keys that matter, must give the shapes of the catalogue; odd ones a line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.model.catalogue import model_named
from swarm_predict.model.hf_config import FAMILIES, from_config
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import UnknownModel


def config(kind: str, hidden: int, layers: int, heads: int, vocab: int, **more: Any) -> dict[str, Any]:
    usual = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": vocab}
    return {"model_type": kind, **usual, **more}


# as they stand on huggingface.co, keys that change no byte left out
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-2-70b": config("llama", 8192, 80, 64, 32000, intermediate_size=28672, num_key_value_heads=8),
    "llama-2-7b": config("llama", 4096, 32, 32, 32000, intermediate_size=11008),
    "llama-3.2-1b": config(
        "llama", 2048, 16, 32, 128256, intermediate_size=8192, num_key_value_heads=8, head_dim=64,
        tie_word_embeddings=True,
    ),
    "mistral-7b": config(
        "mistral", 4096, 32, 32, 32768, intermediate_size=14336, num_key_value_heads=8, sliding_window=None
    ),
    "mixtral-8x7b": config(
        "mixtral", 4096, 32, 32, 32000, intermediate_size=14336, num_key_value_heads=8, num_local_experts=8,
        num_experts_per_tok=2, sliding_window=None,
    ),
    "qwen2.5-7b": config(
        "qwen2", 3584, 28, 28, 152064, intermediate_size=18944, num_key_value_heads=4, sliding_window=131072,
        use_sliding_window=False, max_window_layers=28,
    ),
    "qwen3-30b-a3b": config(
        "qwen3_moe", 2048, 48, 32, 151936, intermediate_size=6144, moe_intermediate_size=768, num_experts=128,
        num_experts_per_tok=8, num_key_value_heads=4, head_dim=128, decoder_sparse_step=1, mlp_only_layers=[],
    ),
    "gemma-2-9b": config(
        "gemma2", 3584, 42, 16, 256000, intermediate_size=14336, num_key_value_heads=8, head_dim=256,
        sliding_window=4096,
    ),
    "falcon-40b": config(
        "falcon", 8192, 60, 128, 65024, num_kv_heads=8, new_decoder_architecture=True, multi_query=True
    ),
    "falcon-7b": config("falcon", 4544, 32, 71, 65024, multi_query=True, new_decoder_architecture=False),
    "bloom-176b": {"model_type": "bloom", "n_embed": 14336, "hidden_size": 14336, "n_layer": 70,
                   "num_attention_heads": 112, "vocab_size": 250880},
    "gpt2": {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257},
    "deepseek-v3": config(
        "deepseek_v3", 7168, 61, 128, 129280, intermediate_size=18432, moe_intermediate_size=2048,
        n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=3, moe_layer_freq=1,
        num_key_value_heads=128, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
        v_head_dim=128,
    ),
    "deepseek-v2-lite": config(
        "deepseek_v2", 2048, 27, 16, 102400, intermediate_size=10944, moe_intermediate_size=1408, n_routed_experts=64,
        n_shared_experts=2, num_experts_per_tok=6, first_k_dense_replace=1, moe_layer_freq=1, num_key_value_heads=16,
        q_lora_rank=None, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    ),
    "gpt-oss-20b": config(
        "gpt_oss", 2880, 24, 64, 201088, intermediate_size=2880, num_key_value_heads=8, head_dim=64,
        num_local_experts=32, num_experts_per_tok=4, sliding_window=128,
        layer_types=["sliding_attention", "full_attention"] * 12,
    ),
    "gemma-3-27b": {
        "model_type": "gemma3",
        "text_config": config(
            "gemma3_text", 5376, 62, 32, 262208, intermediate_size=21504, num_key_value_heads=16, head_dim=128,
            sliding_window=1024, sliding_window_pattern=6,
        ),
    },
    "glm-4.5-air": config(
        "glm4_moe", 4096, 46, 96, 151552, intermediate_size=10944, moe_intermediate_size=1408, n_routed_experts=128,
        n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=1, num_key_value_heads=8, head_dim=128,
    ),
    "starcoder2-15b": config(
        "starcoder2", 6144, 40, 48, 49152, intermediate_size=24576, num_key_value_heads=4, tie_word_embeddings=False,
        sliding_window=4096,
    ),
}  # fmt: skip


def facts(model: ModelShape) -> tuple[Any, ...]:
    return (
        model.params,
        model.layers,
        model.hidden,
        model.kv_bytes_per_token(),
        model.kv_tokens(100_000),
        model.weights_touched("fp16", 1),
        model.tied,
        model.dense_ids,
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_real_configs_give_the_shapes_of_the_catalogue(name):
    assert facts(from_config(CONFIGS[name], name)) == facts(model_named(name))


def test_text_is_read_as_well():
    assert from_config(json.dumps(CONFIGS["gpt2"]), "mine").name == "mine"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("{", "mine is not JSON"),
        ("[1]", "mine is not a JSON object; give --model a Hugging Face config.json"),
        ("{}", "model_type 'None' is not understood"),
        ('{"model_type": "rwkv"}', "model_type 'rwkv' is not understood; enter the shape by hand: [model] in a swarm"),
        ('{"model_type": ["llama"]}', "is not understood"),
        ('{"model_type": "llama"}', "config.json has no num_hidden_layers"),
        (json.dumps(CONFIGS["llama-2-7b"] | {"num_attention_heads": 31}), "31 heads do not divide hidden_size 4096"),
        (json.dumps(CONFIGS["llama-2-7b"] | {"num_key_value_heads": 5}), "5 KV heads do not divide 32 heads"),
        (json.dumps(CONFIGS["llama-2-7b"] | {"vocab_size": -1}), "vocab_size is '-1', not a count"),
        (json.dumps(CONFIGS["llama-2-7b"] | {"vocab_size": True}), "vocab_size is 'True', not a count"),
        (json.dumps(CONFIGS["llama-2-7b"] | {"vocab_size": 1e99}), "vocab_size is"),
        (json.dumps(CONFIGS["llama-2-7b"] | {"intermediate_size": None}), "config.json has no intermediate_size"),
        (json.dumps(CONFIGS["mixtral-8x7b"] | {"num_experts_per_tok": 9}), "9 of 8 experts a token"),
        (json.dumps(CONFIGS["deepseek-v3"] | {"kv_lora_rank": 0}), "config.json has no kv_lora_rank"),
        ("[" * 100_000, "mine is not JSON"),
    ],
)
def test_what_is_not_understood_is_reported_in_one_line(broken, said):
    with pytest.raises(UnknownModel) as caught:
        from_config(broken, "mine")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


KEYS = sorted({key for one in CONFIGS.values() for key in one} - {"model_type", "text_config"})
VALUES = st.none() | st.booleans() | st.integers(-5, 10**9) | st.floats() | st.text(max_size=5) | st.just([1, "x"])


@given(st.sampled_from(sorted(FAMILIES)), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=12), st.booleans())
def test_any_config_gives_a_model_or_one_line(kind, changes, from_scratch):
    base = {} if from_scratch else dict(CONFIGS["deepseek-v3"])
    try:
        model = from_config({**base, **changes, "model_type": kind}, "mine")
    except UnknownModel as error:
        said = str(error)
        work = 1.0
    else:
        said = ""
        work = model.bytes_touched("fp16", 1, 128)
    assert "\n" not in said
    assert 0 < work < float("inf")
