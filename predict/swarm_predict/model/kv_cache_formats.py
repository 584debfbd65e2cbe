"""Define formats of the KV cache by the engines' names, and models with a fixed one.

llama.cpp's types are blocks of 32 elements with a 16-bit scale, and with a 16-bit minimum in those of name _1 (ggml,
ggml-common.h). vLLM's and SGLang's fp8 has one scale a tensor. FlexGen's 4 bits are groups of 64 with minimum and
scale, as many bits an element as q4_0. Only memory and what a step reads shrink; converting entries is not counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from swarm_predict.errors import PredictError
from swarm_predict.model.shapes import ModelShape
from swarm_predict.options import KV_CACHES

CACHE_16_BITS: Final = "f16"
CACHE_BITS: Final = dict(zip(KV_CACHES, (16.0, 8.5, 6.0, 5.5, 5.0, 4.5, 8.0), strict=True))  # an element
_GGML: Final = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
_PATTERNS: Final = tuple(name for name in CACHE_BITS if name != CACHE_16_BITS)
# beside 16 bits, which every engine has; engines that are not named have no option for it
CACHES_OF: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("llama.cpp",), _GGML),
    **dict.fromkeys(("vllm", "vllm-tp", "sglang", "sglang-tp"), ("fp8",)),
    **dict.fromkeys(("chain", "ring", "star", "tensor-parallel", "hybrid"), _PATTERNS),
}


def with_kv_cache(model: ModelShape, name: str) -> ModelShape:
    """Return the model with its caches in another format. Raises PredictError for a format that is none."""
    if name not in CACHE_BITS:
        raise PredictError(f"--kv-cache {name!r} is not a known format; choose one of {', '.join(CACHE_BITS)}")
    if name == model.kv_cache:
        return model
    share = CACHE_BITS[name] / CACHE_BITS[model.kv_cache]
    smaller = {
        block: msgspec.structs.replace(
            block, caches=tuple(msgspec.structs.replace(each, elements=each.elements * share) for each in block.caches)
        )
        for block in model.kinds
    }
    return replace(model, kv_cache=name, blocks=tuple(smaller[block] for block in model.all_blocks))


def check_kv_cache(model: ModelShape, engine: str) -> None:
    """Raise PredictError where the engine cannot keep the model's caches so."""
    if model.kv_cache == CACHE_16_BITS or model.kv_cache in (able := CACHES_OF.get(engine, ())):
        return
    names = f"it has {', '.join((CACHE_16_BITS, *able))}" if able else "it keeps 16 bits"
    raise PredictError(f"{engine} has no KV cache in {model.kv_cache}: {names}")
