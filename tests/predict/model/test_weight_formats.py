"""Names of weight formats, and their bits per weight."""

from __future__ import annotations

import pytest

from swarm_predict.model.catalogue import model_named
from swarm_predict.model.shapes import weight_format
from swarm_predict.model.weight_formats import canonical, format_names, is_format
from swarm_predict.types import PredictError

# llama.cpp tools/quantize/README.md, Llama-3.1-8B: bits a weight of the whole file
PRINTED = {
    "iq1_s": 2.0042, "iq1_m": 2.1460, "iq2_xxs": 2.3824, "iq2_xs": 2.5882, "iq2_s": 2.7403, "iq2_m": 2.9294,
    "iq3_xxs": 3.2548, "iq3_xs": 3.4977, "iq3_s": 3.6606, "iq3_m": 3.7628, "iq4_nl": 4.6818, "q2_k": 3.1593,
    "q3_k_m": 3.9960, "q3_k_l": 4.2979,
}  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_mixtures_come_to_what_llama_cpp_prints(name):
    model = model_named("llama-3.1-8b")
    whole = model.stage_bytes(0, 31, name) + model.head_bytes(name) + model.embedding_bytes(name)
    assert whole * 8 / model.params == pytest.approx(PRINTED[name], rel=2e-3)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("4.5bpw", 4.5), ("exl2-4.25bpw", 4.25), ("3bpw", 3), ("mlx-4bit", 4.5), ("mlx-8bit-g32", 9), ("nvfp4", 4.5),
        ("mxfp8", 8.25), ("awq", 4.15625), ("gptq", 4.15625), ("gptq-8bit-g32", 8.75), ("UD-Q4_K_XL", 4.797),
        ("ud-iq1_s", weight_format("iq1_s").layer_bits), ("Q4-K-M", 4.797), ("F16", 16), ("BF16", 16),
    ],
)  # fmt: skip
def test_names_stand_for_bits(name, bits):
    assert weight_format(name).layer_bits == pytest.approx(bits)
    assert weight_format(canonical(name)).layer_bits == pytest.approx(bits)


@pytest.mark.parametrize(
    "name", ["", "fp12", "0.1bpw", "99bpw", "bpw", "q9_k", "mlx-7bit", "ud-fp16", "iq5_s", "nanbpw"]
)
def test_other_names_are_refused(name):
    assert not is_format(name)
    with pytest.raises(PredictError, match=r"is not a known format; choose one of fp32.*or bits a weight as 4\.5bpw"):
        weight_format(name)


def test_every_listed_name_is_one():
    assert all(is_format(name) for name in format_names())
    assert {"iq1_s", "iq4_nl", "q2_k", "q6_k", "nvfp4", "mxfp4", "awq", "gptq", "mlx-4bit", "exl2"} <= set(
        format_names()
    )


@pytest.mark.parametrize(
    ("model", "weights", "gib"),
    [  # as llama-bench prints them: kyuz0/amd-strix-halo-toolboxes d1a34be, benchmark/results
        ("qwen3.6-35b-a3b", "ud-q4_k_xl", 21.27), ("gemma-4-26b-a4b", "ud-q4_k_xl", 15.90),
        ("qwen3.6-35b-a3b", "ud-q8_k_xl", 35.80), ("gemma-4-26b-a4b", "ud-q8_k_xl", 25.94),
        ("gemma-4-31b", "ud-q4_k_xl", 17.46), ("gemma-4-31b", "ud-q8_k_xl", 32.60),
        ("minimax-m2", "ud-q6_k_xl", 180.94), ("qwen3.5-122b-a10b", "ud-q5_k_xl", 85.60),
    ],
)  # fmt: skip
def test_unsloths_dynamic_files_have_their_size(model, weights, gib):
    """A mixture of experts is read beside its experts, at more bits than the mixture says."""
    shape = model_named(model)
    size = shape.layers * shape.layer_bytes(weights) + shape.head_bytes(weights)
    size += 0 if shape.tied else shape.embedding_bytes(weights)
    assert size / 2**30 == pytest.approx(gib, rel=0.09)


def test_what_a_token_reads_beside_the_experts_keeps_eight_bits_in_a_dynamic_file():
    shape = model_named("qwen3.6-35b-a3b")
    plain, dynamic = (shape.weights_touched(weights, 1) for weights in ("q4_k_m", "ud-q4_k_xl"))
    assert dynamic > 1.3 * plain
    dense = model_named("gemma-4-31b")
    assert dense.weights_touched("ud-q4_k_xl", 1) == dense.weights_touched("q4_k_m", 1)
