"""The format that a checkpoint declares: sizes against those of the files on Hugging Face."""

from __future__ import annotations

from typing import Any

import pytest

from swarm_predict.model.hf_config import from_config
from swarm_predict.types import UnknownModel

LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 4, "num_attention_heads": 32, "vocab_size": 32000,
    "num_key_value_heads": 8, "intermediate_size": 14336,
}  # fmt: skip
MIXTRAL = {
    **LLAMA,
    "model_type": "qwen3_moe",
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 1024,
}
FP8 = {"num_bits": 8, "type": "float"}
INT4 = {"num_bits": 4, "type": "int", "group_size": 32}
ATTENTION, MLP = 4096 * 128 * (2 * 32 + 2 * 8), 3 * 4096 * 14336


def layer(config: dict[str, Any]) -> tuple[str, float]:
    """(the format, bits of all matrices of a layer)."""
    model = from_config(config, "m")
    return model.weights, (model.layer_bytes(model.weights) - 2 * 2 * 4096) * 8


@pytest.mark.parametrize(
    ("given", "name", "bits"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", 8 + 32 / 128**2),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq", 4.15625),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}, "gptq", 4.15625),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, "gptq-8bit-g32", 8.75),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4", 4.5),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", 8),
        ({"quant_method": "exl2", "bits": 4.25}, "4.25bpw", 4.25),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", 4.5),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", 8),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": INT4, "targets": ["Linear"]}},
             "ignore": ["lm_head"]}, "int4-g32", 4.5,
        ),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": FP8}}}, "fp8", 8),
    ],
)  # fmt: skip
def test_the_checkpoint_says_its_format(given, name, bits):
    found, size = layer({**LLAMA, "quantization_config": given})
    assert found == name
    assert size == pytest.approx((ATTENTION + MLP) * bits, rel=1e-4)


def test_mlx_packs_embedding_and_head_as_well():
    model = from_config({**LLAMA, "quantization": {"bits": 4, "group_size": 64}}, "m")
    assert model.weights == "mlx-4bit"
    assert model.embedding_bytes("mlx-4bit") == 32000 * 4096 * 4.5 / 8


@pytest.mark.parametrize(
    "ignored",
    [
        ["model.layers.*.self_attn"],
        ["re:.*self_attn.*"],
        ["lm_head", *(f"model.layers.{i}.self_attn*" for i in range(4))],
        ["self_attn"],
    ],
)
def test_what_was_left_alone_stays_in_16_bits(ignored):
    _, size = layer({**LLAMA, "quantization_config": {"quant_algo": "NVFP4", "ignore": ignored}})
    assert size == pytest.approx(ATTENTION * 16 + MLP * 4.5)


def test_layers_may_be_left_alone_one_by_one():
    given = {"quant_algo": "NVFP4", "exclude_modules": ["model.layers.1*"]}
    model = from_config({**LLAMA, "quantization_config": given}, "m")
    sizes = [model.stage_bytes(i, i, "nvfp4") for i in range(4)]
    assert sizes[0] == sizes[2] == sizes[3]
    assert sizes[1] == pytest.approx(sizes[0] * 16 / 4.5, rel=1e-3)


def test_only_experts_are_packed_where_the_rest_was_left_alone():
    given = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
        "ignore": ["re:.*self_attn.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"],
    }  # fmt: skip
    plain = from_config(MIXTRAL, "m")
    model = from_config({**MIXTRAL, "quantization_config": given}, "m")
    block = plain.all_blocks[0]
    experts = block.experts * block.expert_matrices
    assert model.layer_bytes(model.weights) == pytest.approx(
        (block.matrices * 16 + experts * 4.5) / 8 + block.small * 2, rel=2e-3
    )


def test_modules_may_be_packed_each_in_its_way():
    own = {f"model.layers.{i}.self_attn.q_proj": {"quant_algo": "FP8"} for i in range(4)}
    own |= {f"model.layers.{i}.mlp.gate_proj": {"quant_algo": "NVFP4", "group_size": 16} for i in range(4)}
    given = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": own}
    name, size = layer({**LLAMA, "quantization_config": given})
    assert name == "nvfp4"
    assert size == pytest.approx(ATTENTION * 8 + MLP * 4.5)


@pytest.mark.parametrize(
    "given",
    [
        {"quant_method": "unheard_of"},
        {"quant_algo": "W3A3"},
        {"quant_method": "compressed-tensors"},
        {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {"a.b": {"quant_algo": "ODD"}},
        },
    ],
)
def test_a_format_that_is_not_known_is_refused(given):
    with pytest.raises(UnknownModel, match=r"remove .*give --weights"):
        from_config({**LLAMA, "quantization_config": given}, "m")


def test_other_weights_are_counted_as_if_it_were_not_packed():
    packed = from_config({**LLAMA, "quantization_config": {"quant_algo": "NVFP4"}}, "m")
    assert packed.layer_bytes("q8_0") == from_config(LLAMA, "m").layer_bytes("q8_0")
    assert from_config({**LLAMA, "torch_dtype": "bfloat16"}, "m").weights == "bf16"
    assert from_config(LLAMA, "m").weights == ""
