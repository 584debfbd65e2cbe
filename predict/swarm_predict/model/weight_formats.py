"""Define weight formats: the bits that one parameter takes in each, under the names that people and engines use.

`WEIGHT_FORMATS` are the most common ones, `_FURTHER` ggml's other mixtures, MLX, EXL2, NVFP4, AWQ and GPTQ; a number of
bits (`4.5bpw`) is a format too. Mixtures of k- and i-quants are given by the bits that llama.cpp's
tools/quantize/README.md prints for Llama-3.1-8B, less what embedding and head take there; without a printed figure by
their block size. A GGUF file itself is more exact.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from swarm_predict.errors import PredictError


class WeightFormat(msgspec.Struct, frozen=True):
    """The bits that one parameter really takes, scales and zero points included."""

    layer_bits: float  # attention and MLP matrices
    head_bits: float  # LM head: most quantisers leave it alone
    embedding_bits: float
    source: str
    expert_bits: float | None = None  # routed experts, where they differ from the rest
    beside_experts_bits: float | None = None  # all else in a layer of routed experts, where that differs; no fallback
    # k-quants come in blocks of 256: a matrix whose rows are no multiple of that falls back to a format with blocks of
    # 32. Bits of ffn_down and of the other matrices: as usual, and fallen back.
    down_bits: tuple[float, float] | None = None
    other_bits: tuple[float, float] | None = None


def _plain(bits: float, source: str) -> WeightFormat:
    return WeightFormat(bits, bits, bits, source)


_GGML = "ggml-common.h block sizes"
_FALLBACK = "; rows: llama.cpp src/llama-quant.cpp (q2_k, q3_k, iq4_xs → iq4_nl, q4_k → q5_0, q5_k → q5_1, q6_k → q8_0)"
K_BLOCK: Final = 256


def _k_quant(
    bits: float, embedding: float, source: str, *, down: tuple[float, float], other: tuple[float, float]
) -> WeightFormat:
    return WeightFormat(bits, 210 * 8 / 256, embedding, source + _FALLBACK, down_bits=down, other_bits=other)


WEIGHT_FORMATS: Final[dict[str, WeightFormat]] = {
    "fp32": _plain(32, "IEEE 754"),
    "fp16": _plain(16, "IEEE 754"),
    "bf16": _plain(16, "IEEE 754 single, upper half"),
    # one fp32 scale a row of some thousand weights: under 0.1 %; head and embedding stay fp16
    "int8": WeightFormat(8, 16, 16, "LLM.int8(), arXiv 2208.07339; bitsandbytes skips lm_head"),
    "fp8": WeightFormat(8 + 32 / 128**2, 16, 16, "DeepSeek-V3 arXiv 2412.19437 §3.3: a scale for each 128×128 block"),
    "nf4": WeightFormat(4.5, 16, 16, "QLoRA arXiv 2305.14314 §3: fp32 absmax for each 64 weights"),
    "nf4_dq": WeightFormat(4.127, 16, 16, "QLoRA arXiv 2305.14314 §3: double quantisation, 0.127 bits of scales"),
    "int4_g128": WeightFormat(4 + 20 / 128, 16, 16, "AWQ/GPTQ, group 128: fp16 scale and 4-bit zero point"),
    "mxfp4": WeightFormat(16, 16, 16, "OCP MX 1.0: 8-bit scale for each 32; gpt-oss: routed experts only", 4.25),
    "q8_0": _plain(34 * 8 / 32, _GGML),
    "q6_k": _k_quant(6.5625, 6.5625, _GGML, down=(6.5625, 8.5), other=(6.5625, 8.5)),
    "q5_1": WeightFormat(24 * 8 / 32, 210 * 8 / 256, 24 * 8 / 32, _GGML),
    "q5_0": WeightFormat(22 * 8 / 32, 210 * 8 / 256, 22 * 8 / 32, _GGML),
    "q4_1": WeightFormat(20 * 8 / 32, 210 * 8 / 256, 20 * 8 / 32, _GGML),
    "q4_0": WeightFormat(18 * 8 / 32, 210 * 8 / 256, 18 * 8 / 32, _GGML),
    # attn_v and ffn_down of half the layers are q6_k: with the shapes of Llama-3.1-8B this comes to the 4.8944 and
    # 5.7036 bits a weight of the whole model that llama.cpp's tools/quantize/README.md prints
    "q5_k_m": _k_quant(5.653, 5.5, "llama.cpp tools/quantize/README.md", down=(6.03125, 7.25), other=(5.5, 6.0)),
    "q5_k_s": _k_quant(5.5, 5.5, _GGML, down=(5.5, 6.0), other=(5.5, 6.0)),
    "q4_k_m": _k_quant(4.797, 4.5, "llama.cpp tools/quantize/README.md", down=(5.53125, 7.0), other=(4.5, 5.5)),
    "q4_k_s": _k_quant(4.5, 4.5, _GGML, down=(4.5, 5.5), other=(4.5, 5.5)),
    "iq4_xs": _k_quant(4.25, 4.25, _GGML, down=(4.25, 4.5), other=(4.25, 4.5)),
    "q3_k_s": _k_quant(3.4375, 3.4375, _GGML, down=(3.4375, 4.5), other=(3.4375, 4.5)),
    "q2_k_s": _k_quant(2.625, 2.625, _GGML, down=(2.625, 4.5), other=(2.625, 4.5)),
    # what GGUF calls MXFP4: as gpt-oss is published there, all but the routed experts in q8_0
    "mxfp4_moe": WeightFormat(34 * 8 / 32, 34 * 8 / 32, 34 * 8 / 32, "llama.cpp ftype MXFP4_MOE", 4.25),
}

_README: Final = "llama.cpp tools/quantize/README.md, Llama-3.1-8B, less embedding and head"
_Q6: Final = 210 * 8 / 256
MIN_BITS: Final = 0.5
MAX_BITS: Final = 32.0

# Of Llama-3.1-8B: elements of all layers, and of embedding and head each.
_LAYERS_ELEMENTS: Final = 6_979_321_856
_END_ELEMENTS: Final = 525_336_576


def _mixture(printed: float, embedding: float, head: float = _Q6) -> WeightFormat:
    """Return a format from the bits a weight of the whole file."""
    whole = printed * (_LAYERS_ELEMENTS + 2 * _END_ELEMENTS)
    layer = (whole - (embedding + head) * _END_ELEMENTS) / _LAYERS_ELEMENTS
    return WeightFormat(round(layer, 4), head, embedding, _README)


def _mlx(bits: int, group: int = 64) -> WeightFormat:
    """Return an MLX format: a 16-bit scale and bias for each group; embedding and head as the rest."""
    each = bits + 32 / group
    return WeightFormat(each, each, each, f"mlx.nn.quantize: scale and bias of 16 bits for each {group} weights")


def _group(bits: float, group: int, source: str) -> WeightFormat:
    return WeightFormat(bits + (16 + bits) / group, 16, 16, source)


_FURTHER: Final[dict[str, WeightFormat]] = {
    "iq1_s": _mixture(2.0042, 84 * 8 / 256, 176 * 8 / 256),
    "iq1_m": _mixture(2.1460, 84 * 8 / 256, 176 * 8 / 256),
    "iq2_xxs": _mixture(2.3824, 84 * 8 / 256, 176 * 8 / 256),
    "iq2_xs": _mixture(2.5882, 84 * 8 / 256, 176 * 8 / 256),
    "iq2_s": _mixture(2.7403, 110 * 8 / 256, 176 * 8 / 256),
    "iq2_m": _mixture(2.9294, 110 * 8 / 256, 176 * 8 / 256),
    "iq3_xxs": _mixture(3.2548, 110 * 8 / 256),
    "iq3_xs": _mixture(3.4977, 110 * 8 / 256),
    "iq3_s": _mixture(3.6606, 110 * 8 / 256),
    "iq3_m": _mixture(3.7628, 110 * 8 / 256),
    "iq4_nl": _mixture(4.6818, 18 * 8 / 32),
    "q2_k": _mixture(3.1593, 84 * 8 / 256),
    "q3_k_m": _mixture(3.9960, 110 * 8 / 256),
    "q3_k_l": _mixture(4.2979, 110 * 8 / 256),
    "tq1_0": WeightFormat(54 * 8 / 256, _Q6, 144 * 8 / 256, _GGML),
    "tq2_0": WeightFormat(66 * 8 / 256, _Q6, 144 * 8 / 256, _GGML),
    "nvfp4": WeightFormat(4 + 8 / 16, 16, 16, "NVIDIA NVFP4: an 8-bit scale for each 16 weights"),
    "mxfp8": WeightFormat(8 + 8 / 32, 16, 16, "OCP MX 1.0: an 8-bit scale for each 32 weights"),
    "mxfp6": WeightFormat(6 + 8 / 32, 16, 16, "OCP MX 1.0: an 8-bit scale for each 32 weights"),
    "awq": _group(4, 128, "AWQ arXiv 2306.00978, group 128: fp16 scale and 4-bit zero point"),
    "gptq": _group(4, 128, "GPTQ arXiv 2210.17323, group 128: fp16 scale and 4-bit zero point"),
    "hqq": _group(4, 64, "HQQ, group 64"),
    "int4": _group(4, 128, "compressed-tensors, group 128"),
    "w4a16": _group(4, 128, "compressed-tensors, group 128"),
    "w8a16": WeightFormat(8 + 16 / 128, 16, 16, "compressed-tensors, group 128"),
    "w8a8": WeightFormat(8, 16, 16, "compressed-tensors, one scale a row"),
    "exl2": WeightFormat(4.0, 6, 16, "exllamav2: the mean bits given to its converter; write 4.5bpw for another"),
    "exl3": WeightFormat(4.0, 6, 16, "exllamav3: the mean bits given to its converter; write 4.5bpw for another"),
    "mlx-mxfp4": WeightFormat(4.25, 4.25, 4.25, "mlx.core.quantize mode mxfp4"),
    "mlx-nvfp4": WeightFormat(4.5, 4.5, 4.5, "mlx.core.quantize mode nvfp4"),
}
# Unsloth's dynamic files (ud-…): in a mixture of experts all that each token reads keeps at least 8 bits, in ud-q8_k_xl
# 16, which is most of what one token reads there; dense models are the plain mixture, but for ud-q8_k_xl. Bits from the
# sizes that llama-bench prints of seventeen such files (kyuz0/amd-strix-halo-toolboxes d1a34be and
# amd-r9700-ai-toolboxes 8ad62bc, benchmark/results), less the experts at the mixture's mean.
_MIN_DYNAMIC: Final = 34 * 8 / 32
_DYNAMIC_XL8: Final = 9.8  # ud-q8_k_xl of dense models: 9.1 (31B), 9.8 (12B) and 10.6 (27B)
# One thing by several names.
_SAME: Final[dict[str, str]] = {
    "f32": "fp32", "float32": "fp32", "f16": "fp16", "float16": "fp16", "half": "fp16", "bfloat16": "bf16",
    "q2_k_l": "q2_k", "q4_k": "q4_k_m", "q5_k": "q5_k_m", "q3_k": "q3_k_m", "q6_k_l": "q6_k", "q2_k_xl": "q2_k",
    "q3_k_xl": "q3_k_l", "q4_k_l": "q4_k_m", "q4_k_xl": "q4_k_m", "q5_k_l": "q5_k_m", "q5_k_xl": "q5_k_m",
    "q6_k_xl": "q6_k", "q8_k_xl": "q8_0", "q8": "q8_0", "q6": "q6_k", "q5": "q5_k_m", "q4": "q4_k_m", "q3": "q3_k_m",
    "q2": "q2_k", "fp4": "nvfp4", "w4a4": "nvfp4", "bnb-4bit": "nf4", "bnb-8bit": "int8", "4bit": "int4_g128",
    "8bit": "int8", "int4-awq": "awq", "gptq-int4": "gptq", "w4": "int4", "e4m3": "fp8",
    "fp8_e4m3": "fp8", "float8": "fp8", "tq1": "tq1_0", "tq2": "tq2_0",
}  # fmt: skip
_BITS = re.compile(r"(?:exl[23]-|mlx-)?(\d+(?:\.\d+)?)[-_ ]?bpw")
_MLX = re.compile(r"mlx-(\d)-?bits?(?:-g(?:s)?(32|64|128))?")
_GPTQ = re.compile(r"(?:gptq|awq|int)-?(?:int)?([2348])(?:-?bits?)?(?:[-_]g(\d+))?")


def format_names() -> tuple[str, ...]:
    """Return every name that lists show."""
    return (*WEIGHT_FORMATS, *_FURTHER, "mlx-3bit", "mlx-4bit", "mlx-6bit", "mlx-8bit")


def canonical(weights: str) -> str:
    """Return the name under which a format is known: lower case, one spelling. Raises PredictError for unknown ones."""
    name = weights.strip().lower()
    if name not in WEIGHT_FORMATS:
        name = _SAME.get(name, name)
        if name not in WEIGHT_FORMATS:
            further_format(name)
    return name


def is_format(weights: str) -> bool:
    return weights.lower() in WEIGHT_FORMATS or _find(weights.strip().lower()) is not None


def further_format(weights: str) -> WeightFormat:
    """Return a format that is not in WEIGHT_FORMATS. Raises PredictError for an unknown name."""
    found = _find(weights.strip().lower())
    if found is None:
        names = ", ".join(format_names())
        raise PredictError(
            f"weights {weights!r} is not a known format; choose one of {names}, or bits a weight as 4.5bpw"
        )
    return found


@lru_cache(maxsize=256)
def _find(name: str) -> WeightFormat | None:
    if name.startswith(("ud-q", "ud-iq", "ud-tq")):
        plain = _find(name.removeprefix("ud-"))
        return None if plain is None else _dynamic(plain, name == "ud-q8_k_xl")
    name = name.replace("-", "_") if re.match(r"(?:i|t)?q\d[-_]", name) else name
    name = _SAME.get(name, name)
    if name in WEIGHT_FORMATS:
        return WEIGHT_FORMATS[name]
    if name in _FURTHER:
        return _FURTHER[name]
    if (match := _BITS.fullmatch(name)) and MIN_BITS <= float(match[1]) <= MAX_BITS:
        bits = float(match[1])
        head = max(bits, 6.0) if bits < 16 else bits
        return WeightFormat(
            bits, head, 16.0 if bits <= 16 else bits, "as given: mean bits a weight, head 6 as EXL2 has it"
        )
    if (match := _MLX.fullmatch(name)) and int(match[1]) in (2, 3, 4, 5, 6, 8):
        return _mlx(int(match[1]), int(match[2] or 64))
    if (match := _GPTQ.fullmatch(name)) and int(match[2] or 128) >= 1:
        return _group(int(match[1]), int(match[2] or 128), "AWQ/GPTQ: fp16 scale and zero point a group")
    return None


def _dynamic(plain: WeightFormat, widest: bool) -> WeightFormat:
    """Return Unsloth's dynamic variant of a mixture."""
    least = max(_MIN_DYNAMIC, plain.layer_bits)
    return msgspec.structs.replace(
        plain,
        layer_bits=_DYNAMIC_XL8 if widest else plain.layer_bits,
        head_bits=max(_MIN_DYNAMIC, plain.head_bits) if widest else plain.head_bits,
        expert_bits=plain.layer_bits,
        beside_experts_bits=16.0 if widest else least,
        source=f"{plain.source}; Unsloth dynamic, from file sizes",
    )


def weight_format(weights: str) -> WeightFormat:
    """Return a format. Raises PredictError for an unknown name."""
    known = WEIGHT_FORMATS.get(weights.lower())
    return known if known is not None else further_format(weights)
