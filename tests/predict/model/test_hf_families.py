"""Families of Hugging Face models: parameters as transformers' own classes have them, on the meta device."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarm_predict.model.catalogue import configuration, further, model_named
from swarm_predict.model.families.defaults import family_defaults
from swarm_predict.model.hf_config import FAMILIES, from_config
from swarm_predict.types import UnknownModel

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

# What a class's own defaults leave out, or where they do not build a model.
SMALL: dict[str, dict[str, Any]] = {
    "hunyuan_v1_dense": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "dots1": {"n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "glm4_moe": {"head_dim": 128},
    "glm4v_moe_text": {"head_dim": 128},
    "phi3": {"pad_token_id": 0},
}
# Configurations that say nothing of which layer is what are refused, not guessed.
HAS_TO_SAY = {"mimo_v2_flash", "nemotron_h", "deepseek_v4", "lfm2"}
# transformers has a class for these, but no defaults that build: what they are made of is tested elsewhere
NOT_BUILT = {"lfm2_moe", "step3p5", "mpt"}


def text_kind(family: str) -> str | None:
    """What transformers calls the text model; None where it has no class for it, or one with pictures around it."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    kind = family if family in MODEL_MAPPING_NAMES else f"{family}_text"
    if kind not in CONFIG_MAPPING or kind not in MODEL_MAPPING_NAMES:
        return None
    return None if "text_config" in CONFIG_MAPPING[kind].sub_configs else kind


def counted(config: Any) -> int:
    """Parameters of the text model, with a head that is not tied."""
    config._attn_implementation = "eager"
    with torch.device("meta"), patch.object(torch.nn.Linear, "reset_parameters"):  # no values are drawn
        body = transformers.AutoModel.from_config(config)
    head = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    return sum(parameter.numel() for parameter in body.parameters()) + head


def text_config(kind: str, **changes: Any) -> Any:
    found = transformers.AutoConfig.for_model(kind, **{"pad_token_id": 0, **SMALL.get(kind, {}), **changes})
    return found.get_text_config() if hasattr(found, "get_text_config") else found


# by family, not by class: naming the classes imports much of transformers, in each process that collects tests
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_parameters_are_those_of_the_transformers_class(family):
    """Within 0.1 %, with every field written out, and with nothing but the size."""
    kind = text_kind(family)
    if kind is None:
        pytest.skip("transformers has no class for its text model alone")
    if kind in NOT_BUILT:
        pytest.skip("its class's defaults build no model")
    for changes in ({}, {"num_hidden_layers": 8, "vocab_size": 50_000}):
        if kind == "nemotron_h" and changes:
            continue  # its layers are a pattern
        config = text_config(kind, **changes)
        if not hasattr(config, "tie_word_embeddings"):
            config.tie_word_embeddings = False
        wanted = counted(config)
        full = json.loads(json.dumps(config.to_dict(), default=str)) | {
            "tie_word_embeddings": config.tie_word_embeddings
        }
        assert from_config(full, "m").params == pytest.approx(wanted, rel=1e-3)
        size = {"model_type": kind, "hidden_size": config.hidden_size, "num_hidden_layers": config.num_hidden_layers}
        size |= {**SMALL.get(kind, {}), **changes, "tie_word_embeddings": config.tie_word_embeddings}
        if kind in HAS_TO_SAY:
            with pytest.raises(UnknownModel):
                from_config(size, "m")
        else:
            assert from_config(size, "m").params == pytest.approx(wanted, rel=1e-3)


VARIED = {
    "llama": {"num_key_value_heads": 4, "head_dim": 64, "tie_word_embeddings": True},
    "qwen3_moe": {"num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 256, "head_dim": 64},
    "deepseek_v3": {"n_routed_experts": 16, "first_k_dense_replace": 2, "q_lora_rank": 256, "kv_lora_rank": 128},
    "qwen3_next": {"num_experts": 8, "num_experts_per_tok": 2, "linear_num_value_heads": 16, "head_dim": 128},
    "mimo_v2_flash": {"num_key_value_heads": 8, "moe_intermediate_size": 256, "n_routed_experts": 16},
    "granitemoeshared": {"shared_intermediate_size": 1024, "intermediate_size": 3072},
    "gemma4_text": {"num_kv_shared_layers": 2, "use_double_wide_mlp": True, "num_key_value_heads": 2},
    "glm_moe_dsa": {"n_routed_experts": 16, "index_n_heads": 8, "v_head_dim": 64},
    "jamba": {"num_experts": 4, "mamba_d_state": 32, "mamba_dt_rank": 64},
    "falcon_h1": {"mamba_n_heads": 32, "num_key_value_heads": 4},
    "minimax_m3_vl_text": {"num_local_experts": 8, "head_dim": 64, "index_n_heads": 2},
}  # fmt: skip


@pytest.mark.parametrize("kind", VARIED)
def test_parameters_follow_the_fields(kind):
    config = text_config(kind, num_hidden_layers=8, hidden_size=2048, **VARIED[kind])
    wanted = counted(config)
    assert from_config(json.loads(json.dumps(config.to_dict(), default=str)), "m").params == pytest.approx(
        wanted, rel=1e-3
    )


def test_most_families_have_a_class_to_be_held_to():
    assert sum(text_kind(family) is not None for family in FAMILIES) > 80


def test_defaults_are_those_of_the_installed_classes():
    sys.path.insert(0, str(Path(__file__).parents[3] / "tools" / "data_tables"))
    try:
        import model_defaults
    finally:
        sys.path.pop(0)
    fields = model_defaults.fields_read()
    for kind in model_defaults.kinds():
        found = model_defaults.defaults_of(kind, fields)
        if found is not None:
            assert family_defaults().get(kind, {}) == found, f"{kind}: run python tools/data_tables/model_defaults.py"


@pytest.mark.parametrize("name", further())
def test_further_models_have_the_parameters_their_publishers_count(name):
    _, billions = further()[name]
    assert model_named(name).params / 1e9 == pytest.approx(billions, rel=0.01)


def test_a_silent_configuration_takes_the_defaults_of_its_class():
    """google/gemma-3-4b-it: no heads, no vocabulary; 3.88 billion parameters in its text part."""
    text = {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
        "sliding_window": 1024,
    }  # fmt: skip
    model = from_config({"model_type": "gemma3", "text_config": text}, "gemma-3-4b-it")
    assert model.params / 1e9 == pytest.approx(3.88, rel=1e-3)
    assert (model.heads, model.kv_heads, model.layer.head_dim, model.vocab, model.tied) == (8, 4, 256, 262208, True)
    assert (model.window, model.windowed_layers) == (1024, 29)


def test_null_is_not_the_same_as_silence():
    base = {"model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 2}
    assert from_config(base, "m").kv_heads == 8
    assert from_config({**base, "num_key_value_heads": None}, "m").kv_heads == 32


def test_linear_attention_keeps_a_state_and_no_cache():
    """Qwen3-Next: 36 layers with 32 matrices of 128 × 128 in fp32 and a convolution, 12 layers with a cache."""
    model = model_named("qwen3-next-80b-a3b")
    state = 36 * (32 * 128 * 128 * 4 + (2 * 16 + 32) * 128 * 3 * 2)
    assert model.state_bytes() * model.layers == pytest.approx(state)
    assert model.kv_bytes(1000) * model.layers == 12 * 2 * 2 * 256 * 2 * 1000
    assert model.kv_bytes(2000) == 2 * model.kv_bytes(1000)
    assert model.stage_cache_bytes(0, 2, 10_000) == pytest.approx(state / 36 * 3)


def test_chunks_of_llama_4_stop_the_cache_growing():
    model = model_named("llama-4-scout")
    each = 2 * 8 * 128 * 2
    assert model.kv_bytes(100_000) * model.layers == pytest.approx(each * (12 * 100_000 + 36 * 8192))


def test_sparse_attention_reads_less_than_it_keeps():
    """DeepSeek V3.2: 2048 latents a step, and the indexer's keys of all tokens."""
    model = model_named("deepseek-v3.2")
    latent, keys = 576 * 2, 132
    assert model.kv_bytes(100_000) == pytest.approx(100_000 * (latent + keys))
    read = model.bytes_touched("fp8", 1, 100_000) - model.weights_touched("fp8", 1)
    assert read == pytest.approx(2048 * latent + 100_000 * keys)


def test_layers_of_a_searched_model_differ():
    model = model_named("llama-3.3-nemotron-super-49b")
    sizes = {model.stage_bytes(i, i, "fp16") for i in range(model.layers)}
    assert len(sizes) == 8
    assert sum(model.stage_bytes(i, i, "fp16") for i in range(80)) == pytest.approx(model.stage_bytes(0, 79, "fp16"))
    assert any(model.stage_cache_bytes(i, i, 1000) == 0 for i in range(80))


def test_hyper_connections_hand_on_four_hidden_states():
    assert model_named("deepseek-v4-flash").hop_bytes(1, "fp16") == 4 * 4096 * 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "made_up"}, "model_type 'made_up' is not understood; enter the shape by hand: [model]"),
        ({"model_type": "nemotron_h", "hidden_size": 64, "num_hidden_layers": 2}, "has no hybrid_override_pattern"),
        (
            {"model_type": "nemotron_h", "hidden_size": 64, "num_hidden_layers": 3, "hybrid_override_pattern": "MX*"},
            "the layer pattern has 'X', which is not understood",
        ),
        (
            {"model_type": "nemotron_h", "hidden_size": 64, "num_hidden_layers": 9, "hybrid_override_pattern": "M-*"},
            "the layer pattern has 3 layers, num_hidden_layers 9",
        ),
        (
            {"model_type": "qwen3_next", "hidden_size": 64, "num_hidden_layers": 2, "layer_types": ["full_attention"]},
            "layer_types has 1 entries, not one word for each of 2 layers",
        ),
        (
            {"model_type": "qwen3_next", "hidden_size": 64, "num_hidden_layers": 1, "layer_types": ["odd"]},
            "layer_types has 'odd', which is not understood",
        ),
        ({"model_type": "nemotron-nas", "hidden_size": 64, "num_hidden_layers": 2}, "has no block_configs"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_one_line(config, said):
    with pytest.raises(UnknownModel) as caught:
        from_config(config, "mine")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


VALUES = st.sampled_from(
    [None, True, False, 0, 1, -1, 3, 64, 5000, 10**9, 10**30, 1.5, float("nan"), "x", "", [], [1], ["x"], {}, {"a": 1}]
)  # fmt: skip
QUANTISATION = st.dictionaries(
    st.sampled_from(
        ["quant_method", "quant_algo", "bits", "group_size", "config_groups", "ignore", "quantized_layers"]
    ),
    st.one_of(VALUES, st.sampled_from(["fp8", "awq", "modelopt", "NVFP4", 4, ["*self_attn*", "re:(", "re:.*x"]])),
    max_size=4,
)


@pytest.mark.parametrize("name", further())
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_change_to_a_real_configuration_gives_a_model_or_one_line(name, data):
    config = configuration(name)
    for key in data.draw(
        st.lists(st.sampled_from([*config, "layer_types", "sliding_window", "text_config"]), max_size=3)
    ):
        config[key] = config[key] if key == "model_type" else data.draw(VALUES)
    if data.draw(st.booleans()):
        config[data.draw(st.sampled_from(["quantization", "quantization_config"]))] = data.draw(QUANTISATION)
    try:
        model = from_config(config, "m")
    except UnknownModel as error:
        said, work = str(error), 1.0
    else:
        weights = model.weights or "fp16"
        said, work = "", model.bytes_touched(weights, 3, 100_000) + model.decode_flops(1, 100) + model.stage_bytes(
            0, model.layers - 1, weights
        )  # fmt: skip
    assert "\n" not in said
    assert 0 < work < float("inf")
