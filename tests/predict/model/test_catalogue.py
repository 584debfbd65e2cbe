"""What models weigh: the catalogue against its publishers' parameter counts, formats against their block sizes."""

from __future__ import annotations

import pytest

from swarm_predict.model.catalogue import catalogue, model_named
from swarm_predict.model.weight_formats import WEIGHT_FORMATS, weight_format
from swarm_predict.types import PredictError, UnknownModel
from swarm_protocol.layer_shape import LayerShape

ASKED_FOR = {
    "llama-2-7b",
    "llama-2-13b",
    "llama-2-70b",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "llama-3.1-405b",
    "bloom-176b",
    "mixtral-8x7b",
    "mixtral-8x22b",
    "qwen2.5-7b",
    "qwen2.5-72b",
    "qwen3-8b",
    "qwen3-32b",
    "qwen3-30b-a3b",
    "qwen3-235b-a22b",
    "mistral-7b",
    "gemma-2-9b",
    "gemma-3-27b",
    "phi-4",
    "falcon-40b",
    "falcon-180b",
    "deepseek-v3",
    "gpt-oss-20b",
    "gpt-oss-120b",
    "tiny",
}


@pytest.mark.parametrize("name", catalogue())
def test_shape_has_the_parameters_its_publisher_counts(name):
    entry = catalogue()[name]
    assert entry.shape.params / 1e9 == pytest.approx(entry.published_b, rel=0.005)


def test_catalogue_has_what_people_run():
    assert set(catalogue()) >= ASKED_FOR
    assert len(catalogue()) >= 30


@pytest.mark.parametrize(
    ("name", "active_b", "vocab_matrices"),
    [  # model cards; some publishers count the embedding as active, some do not
        ("deepseek-v3", 37.0, 1),
        ("qwen3-30b-a3b", 3.3, 2),
        ("qwen3-235b-a22b", 22.0, 1),
        ("mixtral-8x7b", 12.9, 2),
        ("gpt-oss-20b", 3.6, 1),
        ("gpt-oss-120b", 5.1, 1),
    ],
)
def test_a_token_touches_the_active_parameters_on_the_model_card(name, active_b, vocab_matrices):
    model = model_named(name)
    touched = model.weights_touched("fp16", 1) / 2 * model.layers + vocab_matrices * model.vocab * model.hidden
    assert touched / 1e9 == pytest.approx(active_b, rel=0.03)


def test_bytes_of_llama_2_70b_are_those_helix_counts():
    """Helix artifact: 1.711 GB a layer; the article: 16 KB of activation a token, 8 KB at hidden 4096."""
    model = model_named("llama-2-70b")
    assert model.layer_bytes("fp16") == pytest.approx(1.711e9, rel=1e-3)
    assert model.hop_bytes(1, "fp16") == 16384
    assert model_named("llama-2-7b").hop_bytes(1, "fp16") == 8192
    assert model.kv_bytes_per_token() == 2 * 8 * 128 * 2


def test_mla_keeps_one_latent_a_token():
    """DeepSeek-V2 paper, table 1: (512 + 64) elements a layer."""
    assert model_named("deepseek-v3").kv_bytes_per_token() == 576 * 2


def test_windowed_layers_stop_growing_with_context():
    model = model_named("gpt-oss-20b")
    assert model.kv_tokens(128) == 128
    assert model.kv_tokens(8192) == (128 + 8192) / 2


def test_dense_first_layers_of_deepseek_are_small():
    model = model_named("deepseek-v3")
    assert model.stage_bytes(0, 2, "fp8") < 0.1 * model.stage_bytes(3, 5, "fp8")
    assert model.stage_bytes(0, 60, "fp8") == pytest.approx(61 * model.layer_bytes("fp8"))


def test_more_tokens_wake_more_experts_up_to_all_of_them():
    model = model_named("mixtral-8x7b")
    one, many = model.weights_touched("fp16", 1), model.weights_touched("fp16", 1000)
    assert one < model.weights_touched("fp16", 4) < many
    assert many == pytest.approx(model.layer_bytes("fp16"))


def test_gguf_mixes_come_to_what_llama_cpp_prints():
    """llama.cpp tools/quantize/README.md, Llama-3.1-8B: bits a weight of the whole model."""
    model = model_named("llama-3.1-8b")
    printed = {"q4_k_m": 4.8944, "q5_k_m": 5.7036, "q8_0": 8.5008, "q6_k": 6.5633, "q4_k_s": 4.6672}
    for weights, bits in printed.items():
        whole = model.layers * model.layer_bytes(weights) + model.head_bytes(weights) + model.embedding_bytes(weights)
        assert whole * 8 / model.params == pytest.approx(bits, rel=0.02), weights


def test_every_format_says_where_it_is_from_and_quantised_is_smaller():
    assert {"fp32", "fp16", "bf16", "int8", "fp8", "nf4", "q8_0", "q4_0", "q4_k_m", "q5_k_m", "q6_k"} <= set(
        WEIGHT_FORMATS
    )
    assert all(kind.source for kind in WEIGHT_FORMATS.values())
    model = model_named("llama-3.1-8b")
    order = ["fp32", "fp16", "q8_0", "int8", "q6_k", "q5_k_m", "q4_k_m", "q4_0"]
    sizes = [model.layer_bytes(weights) for weights in order]
    assert sizes == sorted(sizes, reverse=True)


def test_mxfp4_shrinks_experts_only():
    """gpt-oss model card: 120b is 60.8 GiB, 20b 12.8 GiB on disk."""
    for name, gib in (("gpt-oss-120b", 60.8), ("gpt-oss-20b", 12.8)):
        model = model_named(name)
        whole = model.layers * model.layer_bytes("mxfp4") + model.head_bytes("mxfp4") + model.embedding_bytes("mxfp4")
        assert whole / 2**30 == pytest.approx(gib, rel=0.02)


def test_names_and_hub_ids_find_the_same_model():
    assert model_named("meta-llama/Llama-2-70b-hf") is model_named("llama-2-70b")
    assert model_named(" LLAMA-2-70B ") is model_named("llama-2-70b")


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownModel, match=r"no model is called 'lama-2-70b'; did you mean llama-2-70b"):
        model_named("lama-2-70b")
    with pytest.raises(UnknownModel, match="known are tiny"):
        model_named("zzzz")


def test_unknown_formats_list_the_known():
    with pytest.raises(PredictError, match="weights 'fp12' is not a known format; choose one of fp32, fp16"):
        weight_format("fp12")
    with pytest.raises(PredictError, match="activations 'fp8' is not a known format; choose one of fp32, fp16, int8"):
        model_named("tiny").hop_bytes(1, "fp8")


def test_plain_attention_is_untouched_by_the_fields_of_mla():
    shape = LayerShape(architecture="llama", hidden=8, intermediate=16, heads=4, kv_heads=2, head_dim=2)
    assert shape.attention_params == 8 * 2 * (2 * 4 + 2 * 2)
    assert shape.kv_elements == 2 * 2 * 2
