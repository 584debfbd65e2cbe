"""Turn a Hugging Face config.json into a ModelShape, or into one line that says why not.

Each `model_type` has a reader (`families`) that knows how its layers are built; what the configuration leaves unsaid is
what its transformers class takes. A type that is not listed is refused, since a wrong shape is worse than none.
Multimodal configs are read by their text part. Unknown keys are ignored: a config has dozens that change no byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from swarm_predict.errors import UnknownModel
from swarm_predict.model.families import decoder, hybrid, latent, variants
from swarm_predict.model.families.decoder import Decoder, Traits
from swarm_predict.model.families.fields import BY_HAND, Fields
from swarm_predict.model.quantization import own_format
from swarm_predict.model.shapes import ModelShape

Family = tuple[type[Decoder], Traits]

_PLAIN = (decoder.Decoder, Traits())
_UNGATED = (decoder.Decoder, Traits(gated=False))
_MLA = (latent.Latent, Traits("deepseek"))
FAMILIES: Final[dict[str, Family]] = {
    **dict.fromkeys((
        "llama", "mistral3", "stablelm", "Yi", "olmo", "olmo2", "granite", "glm", "glm4", "exaone", "internlm2",
        "baichuan", "smollm3", "seed_oss", "helium", "ministral3", "phi4mm", "xverse", "aquila",
        "olmoe", "granitemoe", "granitemoeshared", "hunyuan_v1_dense", "ernie4_5", "mimo", "cwm", "aria_text", "bitnet",
        "cohere2_moe", "diffllama", "exaone_moe", "flex_olmo", "granite_swa", "granitemoe_swa", "hyperclovax",
        "internlm3", "mellum", "sarvam_moe", "vaultgemma",
    ), _PLAIN),
    **dict.fromkeys(("nemotron", "arcee", "jais2", "persimmon", "mpt", "gpt_neox_japanese"), _UNGATED),
    "mistral": (decoder.Decoder, Traits(window_used=True)),
    "ministral": (decoder.Decoder, Traits(window_used=True)),
    "mixtral": (decoder.Decoder, Traits("mixtral", window_used=True)),
    "qwen2": (decoder.Decoder, Traits(bias=True)),
    "qwen2_vl": (decoder.Decoder, Traits(bias=True)),
    "qwen2_5_vl": (decoder.Decoder, Traits(bias=True)),
    "qwen2_moe": (decoder.Decoder, Traits("mixtral", bias=True)),
    "qwen3": (decoder.Decoder, Traits(head_dim=128, qk_norm=True)),
    "qwen3_vl": (decoder.Decoder, Traits(head_dim=128, qk_norm=True)),
    "qwen3_moe": (decoder.Decoder, Traits("mixtral", qk_norm=True)),
    "qwen3_vl_moe": (decoder.Decoder, Traits("mixtral", qk_norm=True)),
    "gemma": (decoder.Decoder, Traits(tied=True, head_dim=256)),
    "gemma2": (decoder.Decoder, Traits(tied=True, head_dim=256, window_every=2)),
    "gemma3": (decoder.Decoder, Traits(tied=True, head_dim=256, window_every=6)),
    "gemma3_text": (decoder.Decoder, Traits(tied=True, head_dim=256, window_every=6)),
    "gemma4": (variants.Gemma4, Traits(tied=True, window_every=6)),
    "gemma4_text": (variants.Gemma4, Traits(tied=True, window_every=6)),
    "phi3": (decoder.Decoder, Traits(window_used=True)),
    "phimoe": (decoder.Decoder, Traits("mixtral", bias=True)),
    "phi": (decoder.Decoder, Traits("gpt2", gated=False, bias=True)),
    "falcon": (decoder.Decoder, Traits("falcon", tied=True, gated=False)),
    "RefinedWeb": (decoder.Decoder, Traits("falcon", tied=True, gated=False)),
    "RefinedWebModel": (decoder.Decoder, Traits("falcon", tied=True, gated=False)),
    "bloom": (decoder.Decoder, Traits("bloom", tied=True, gated=False, bias=True)),
    "gpt2": (decoder.Decoder, Traits("gpt2", tied=True, gated=False, bias=True)),
    "gpt_neox": (decoder.Decoder, Traits("gpt2", gated=False, bias=True)),
    "gpt_bigcode": (decoder.Decoder, Traits("gpt2", tied=True, gated=False, bias=True)),
    "gptj": (decoder.Decoder, Traits("gpt2", gated=False)),
    "opt": (decoder.Decoder, Traits("gpt2", tied=True, gated=False, bias=True)),
    "starcoder2": (decoder.Decoder, Traits("gpt2", tied=True, window_used=True, gated=False, bias=True)),
    "cohere": (decoder.Decoder, Traits(tied=True)),
    "cohere2": (decoder.Decoder, Traits(tied=True, window_every=4)),
    "olmo3": (decoder.Decoder, Traits(window_every=4, qk_norm=True)),
    "exaone4": (decoder.Decoder, Traits(window_every=4, qk_norm=True)),
    "apertus": (decoder.Decoder, Traits(gated=False, qk_norm=True)),
    "glm4_moe": (decoder.Decoder, Traits("mixtral")),
    "glm4v_moe": (decoder.Decoder, Traits("mixtral")),
    "dots1": (decoder.Decoder, Traits("mixtral", qk_norm=True)),
    "ernie4_5_moe": (decoder.Decoder, Traits("mixtral")),
    "bailing_moe": (decoder.Decoder, Traits("mixtral")),
    "minimax_m2": (decoder.Decoder, Traits("mixtral", qk_norm=True)),
    "gpt_oss": (decoder.Decoder, Traits("mixtral", bias=True, sinks=True, head_dim=64, window_every=2)),
    "llama4": (decoder.Decoder, Traits("mixtral", head_dim=128, experts_default_active=1)),
    "llama4_text": (decoder.Decoder, Traits("mixtral", head_dim=128, experts_default_active=1)),
    **dict.fromkeys((
        "deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa", "mistral4", "minicpm3",
        "sarvam_mla", "youtu",
    ), _MLA),
    "hy_v3": (decoder.Decoder, Traits("mixtral", dense_first=1)),
    "laguna": (decoder.Decoder, Traits("mixtral", dense_first=1)),
    "axk1": (latent.Latent, Traits("deepseek", dense_first=1)),
    "glm4_moe_lite": (latent.Latent, Traits("deepseek", dense_first=1)),
    "deepseek_v4": (latent.CompressedAttention, Traits("mixtral")),
    "deepseek_ref": (latent.CompressedAttention, Traits("mixtral")),
    "qwen3_next": (hybrid.GatedDelta, Traits("mixtral")),
    "qwen3_5": (hybrid.GatedDelta, Traits()),
    "qwen3_5_text": (hybrid.GatedDelta, Traits()),
    "qwen3_5_moe": (hybrid.GatedDelta, Traits("mixtral")),
    "qwen3_5_moe_text": (hybrid.GatedDelta, Traits("mixtral")),
    "kimi_linear": (hybrid.KimiLinear, Traits("mixtral", dense_first=1)),
    "nemotron_h": (hybrid.NemotronH, Traits(gated=False)),
    "nemotron-nas": (variants.Nas, Traits()),
    "jamba": (hybrid.Jamba, Traits("mixtral")),
    "bamba": (hybrid.Mamba, Traits()),
    "granitemoehybrid": (hybrid.GraniteHybrid, Traits()),
    "falcon_h1": (hybrid.FalconH1, Traits()),
    "mamba": (hybrid.MambaOnly, Traits(tied=True)),
    "mamba2": (hybrid.MambaOnly, Traits()),
    "falcon_mamba": (hybrid.MambaOnly, Traits(tied=True)),
    "lfm2": (hybrid.ShortConvolutions, Traits(tied=True)),
    "lfm2_moe": (hybrid.ShortConvolutions, Traits(tied=True)),
    "minimax": (hybrid.Lightning, Traits("mixtral")),
    "minimax_m1": (hybrid.Lightning, Traits("mixtral")),
    "minimax_text_01": (hybrid.Lightning, Traits("mixtral")),
    "mimo_v2_flash": (variants.MiMoV2, Traits("mixtral")),
    "mimo_v2": (variants.MiMoV2, Traits("mixtral")),
    "minimax_m3": (variants.BlockSparse, Traits("mixtral")),
    "minimax_m3_vl": (variants.BlockSparse, Traits("mixtral")),
    "minimax_m3_vl_text": (variants.BlockSparse, Traits("mixtral")),
    "step3p5": (variants.Step3, Traits("mixtral")),
    "step3p7": (variants.Step3, Traits("mixtral")),
}  # fmt: skip
_TEXT_PARTS: Final = ("text_config", "language_config", "llm_config", "thinker_config")
# A text part's own name, where the class of the text alone has the defaults of the family.
DEFAULTS_OF: Final = {
    "gemma3": "gemma3_text", "gemma4": "gemma4_text", "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text", "qwen3_vl_moe": "qwen3_vl_moe_text", "llama4": "llama4_text", "mistral3": "mistral",
    "qwen2_vl": "qwen2_vl_text", "qwen2_5_vl": "qwen2_5_vl_text", "minimax_m3": "minimax_m3_vl_text",
    "kimi_k2": "deepseek_v3",
    "minimax_m3_vl": "minimax_m3_vl_text", "mimo": "qwen2", "deepseek_ref": "deepseek_v4", "Yi": "llama",
    "mimo_v2": "mimo_v2_flash", "glm4v_moe": "glm4v_moe_text", "minimax_m1": "minimax", "minimax_text_01": "minimax",
    "phi4mm": "phi3", "kimi_k25": "deepseek_v3",
}  # fmt: skip


def from_config(config: Mapping[str, Any] | str, name: str) -> ModelShape:
    """Return the model of a config.json (its text, or decoded). Raises UnknownModel."""
    if isinstance(config, str):
        config = _decode(config, name)
    outer, text = config, _text_part(config)
    kind, family = _family(text, outer)
    if family is None:
        raise UnknownModel(
            f"{name}: model_type {str(kind)[:40]!r} is not understood; {BY_HAND}; "
            f"known are {', '.join(sorted(FAMILIES))}"
        )
    reader, traits = family
    fields = Fields(text, str(kind), name, DEFAULTS_OF.get(str(kind), str(kind)))
    found = reader(fields, traits).shape()
    return own_format(found, text if "quantization_config" in text else outer)


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in _TEXT_PARTS:
        part = config.get(key)
        if isinstance(part, Mapping):
            inner = _text_part(part)
            outer = {k: config[k] for k in ("tie_word_embeddings", "vocab_size") if k in config and k not in inner}
            return {**outer, **inner}
    return config


def _family(text: Mapping[str, Any], outer: Mapping[str, Any]) -> tuple[object, Family | None]:
    kinds = [part.get("model_type") for part in (text, outer)]
    for kind in kinds:
        if isinstance(kind, str) and (family := FAMILIES.get(kind.removesuffix("_text")) or FAMILIES.get(kind)):
            return kind, family
    return next((kind for kind in kinds if kind), None), None


def _decode(text: str, name: str) -> Mapping[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnknownModel(f"{name} is not JSON ({error}); give --model a Hugging Face config.json") from None
    if not isinstance(config, dict):
        raise UnknownModel(f"{name} is not a JSON object; give --model a Hugging Face config.json")
    return config
