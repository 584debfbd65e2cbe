"""Define the most common weight formats, with the bits of one parameter. Further names: `formats`."""

from __future__ import annotations

from typing import Final

import msgspec


class WeightFormat(msgspec.Struct, frozen=True):
    """The bits that one parameter really takes, scales and zero points included."""

    layer_bits: float  # attention and MLP matrices
    head_bits: float  # LM head: most quantisers leave it alone
    embedding_bits: float
    source: str
    expert_bits: float | None = None  # routed experts, where they differ from the rest
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
