"""Names as people write them: the shape of the model that is meant, under the name that was given, or none."""

from __future__ import annotations

import pytest

from swarm_predict.model.catalogue import model_named
from swarm_predict.model.names import MAX_CHARACTERS
from swarm_predict.types import UnknownModel

# name: the model whose shape it has, the format that is the default
SAME: dict[str, tuple[str, str]] = {
    "Qwen/Qwen3-30B-A3B-Instruct-2507": ("qwen3-30b-a3b", ""),
    "meta-llama/Meta-Llama-3.1-8B-Instruct": ("llama-3.1-8b", ""),
    "deepseek-ai/DeepSeek-R1-0528": ("deepseek-r1", "fp8"),
    "deepseek-ai/DeepSeek-V3.1": ("deepseek-v3", "fp8"),
    "zai-org/GLM-4.6": ("glm-4.5", ""),
    "tiiuae/falcon-180B-chat": ("falcon-180b", ""),
    "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit": ("llama-3.1-8b", "mlx-4bit"),
    "mlx-community/GLM-4.7-8bit-gs32": ("glm-4.5", "mlx-8bit-g32"),
    "mlx-community/gpt-oss-20b-MXFP4-Q8": ("gpt-oss-20b", "mlx-mxfp4"),
    "llama3.1:70b": ("llama-3.1-70b", "q4_k_m"),
    "llama3:8b-instruct-q8_0": ("llama-3-8b", "q8_0"),
    "qwen2.5:7b-instruct-q4_K_M": ("qwen2.5-7b", "q4_k_m"),
    "gpt-oss:120b": ("gpt-oss-120b", "mxfp4"),
    "deepseek-r1:70b": ("llama-3.3-70b", "q4_k_m"),
    "deepseek-r1:671b": ("deepseek-r1", "fp8"),
    "hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M": ("qwen3-8b", "q4_k_m"),
    "https://huggingface.co/Qwen/Qwen3-32B-FP8": ("qwen3-32b", "fp8"),
    "unsloth/DeepSeek-R1-GGUF": ("deepseek-r1", ""),
    "unsloth/Llama-3.3-70B-Instruct-bnb-4bit": ("llama-3.3-70b", "nf4"),
    "TheBloke/Llama-2-70B-Chat-GPTQ": ("llama-2-70b", "gptq"),
    "Qwen/Qwen3-235B-A22B-Thinking-2507-FP8": ("qwen3-235b-a22b", "fp8"),
    "google/gemma-3-27b-it": ("gemma-3-27b", ""),
    "moonshotai/Kimi-K2-Instruct-0905": ("kimi-k2", "fp8"),
    "Qwen/Qwen2.5-Coder-32B-Instruct": ("qwen2.5-32b", ""),
    "petals-team/StableBeluga2": ("llama-2-70b", ""),
    "timdettmers/guanaco-65b": ("llama-65b", ""),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": ("llama-3.3-70b", ""),
    "mistralai/Mixtral-8x22B-Instruct-v0.1": ("mixtral-8x22b", ""),
    "bigscience/bloomz": ("bloom-176b", ""),
    "Qwen/Qwen3.6-27B": ("qwen3.5-27b", ""),
    "nvidia/Llama-3_3-Nemotron-Super-49B-v1": ("llama-3.3-nemotron-super-49b", ""),
    "CohereForAI/c4ai-command-r-08-2024": ("command-r-08-2024", ""),
    "CohereForAI/c4ai-command-r-plus-08-2024": ("command-r-plus", ""),
}


@pytest.mark.parametrize("name", SAME)
def test_a_name_has_the_shape_that_it_means_and_stays_what_it_is(name):
    base, weights = SAME[name]
    found = model_named(name)
    assert found.all_blocks == model_named(base).all_blocks
    assert (found.vocab, found.layers) == (model_named(base).vocab, model_named(base).layers)
    assert found.weights == weights
    assert found.name in (name, base)
    assert found.notes == ()


@pytest.mark.parametrize("name", ["NousResearch/Hermes-3-Llama-3.1-8B", "cognitivecomputations/dolphin-2.9-llama3-8b"])
def test_a_fine_tune_is_found_by_its_base_and_says_so(name):
    found = model_named(name)
    assert found.params == model_named("llama-3.1-8b").params
    assert found.notes[0].startswith(f"{name} is taken to have the shape of llama-3")


@pytest.mark.parametrize(
    "name",
    [
        "llama-3-120b",
        "meta-llama/Llama-3.2-11B-Vision-Instruct",
        "yuhuili/EAGLE-LLaMA3-Instruct-8B",
        "google/gemma-3n-E4B-it",
        "Qwen/Qwen3-Omni-30B-A3B-Instruct",
        "Qwen/Qwen3-Embedding-8B",
        "nvidia/Llama-3.1-Minitron-4B-Width-Base",
        "someone/Llama-3.1-8B-pruned-6B",
        "qwen3:31b",
        "70b",
        "instruct",
        "",
        "/",
        ":",
    ],
)
def test_what_has_another_shape_is_unknown(name):
    with pytest.raises(UnknownModel, match=r"no model is called .*enter the shape by hand: \[model\]"):
        model_named(name)


def test_names_fit_into_a_message():
    long = "neuralmagic/Meta-Llama-3.1-70B-Instruct-quantized.w4a16-" + "x" * 200
    assert len(model_named(long.removesuffix("x" * 200) + "-" * 60).name) <= MAX_CHARACTERS
