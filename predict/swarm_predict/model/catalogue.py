"""List the built-in models by name: shapes from their config.json, parameter counts from their publishers.

`published_b` is what the shape is checked against (billions of parameters, as the model card or paper says).
`model_named` also accepts what people write for a model (`names`), and offers the nearest names for an unknown one.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import msgspec

from swarm_predict.errors import UnknownModel
from swarm_predict.model.families.defaults import table_lines
from swarm_predict.model.families.fields import BY_HAND
from swarm_predict.model.names import OLLAMA_USUAL, kept, key_of, understand
from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import is_format
from swarm_protocol.layer_shape import LayerShape


class Entry(msgspec.Struct, frozen=True):
    shape: ModelShape
    hub_id: str  # on huggingface.co; empty: ours
    published_b: float  # billions of parameters


def _llama(
    name: str,
    hub_id: str,
    published_b: float,
    layers: int,
    dims: tuple[int, int, int, int, int],
    vocab: int,
    **more: bool,
) -> Entry:
    """Return a plain SwiGLU decoder; `dims` are hidden, intermediate, heads, kv_heads, head_dim."""
    hidden, intermediate, heads, kv_heads, head_dim = dims
    layer = LayerShape(
        architecture="llama",
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        bias=more.get("bias", False),
        qk_norm=more.get("qk_norm", False),
        sinks=more.get("sinks", False),
    )
    shape = ModelShape(name, layers, layer, vocab, tied=more.get("tied", False), source=hub_id)
    return Entry(shape, hub_id, published_b)


def _moe(
    entry: Entry, experts: int, active: int, shared: int = 0, dense: tuple[int, ...] = (), width: int = 0
) -> Entry:
    """Add `experts` routed experts; layers in `dense` keep a plain MLP of `width`."""
    usual = entry.shape.layer
    kind = "deepseek" if usual.kv_lora_rank else "mixtral"
    layer = replace_layer(usual, architecture=kind, experts=experts, experts_active=active, shared_experts=shared)
    plain = replace_layer(usual, intermediate=width) if dense else None
    return msgspec.structs.replace(entry, shape=replace(entry.shape, layer=layer, dense_ids=dense, dense_layer=plain))


def _windowed(entry: Entry, window: int, layers: int) -> Entry:
    return msgspec.structs.replace(entry, shape=replace(entry.shape, window=window, windowed_layers=layers))


def _latent(entry: Entry, q_lora_rank: int) -> Entry:
    """Use DeepSeek's latent attention, whose other ranks are the same in all its models."""
    layer = replace_layer(
        entry.shape.layer,
        architecture="deepseek",
        kv_lora_rank=512,
        q_lora_rank=q_lora_rank,
        rope_head_dim=64,
        v_head_dim=128,
    )
    return msgspec.structs.replace(entry, shape=replace(entry.shape, layer=layer))


def _two_matrix(entry: Entry, architecture: str) -> Entry:
    """Use an MLP of two matrices instead of three (BLOOM, Falcon, GPT-2, StarCoder2)."""
    layer = replace_layer(
        entry.shape.layer, architecture=architecture, gated_mlp=False, bias=architecture in ("bloom", "gpt2")
    )
    return msgspec.structs.replace(entry, shape=replace(entry.shape, layer=layer))


def _positions(entry: Entry, count: int) -> Entry:
    """Add learned positions."""
    return msgspec.structs.replace(entry, shape=replace(entry.shape, extra_params=count * entry.shape.hidden))


def replace_layer(layer: LayerShape, **changes: object) -> LayerShape:
    return msgspec.structs.replace(layer, **changes)


_V3 = (7168, 2048, 128, 128, 128)
_ENTRIES: Final[tuple[Entry, ...]] = (
    _llama("tiny", "", 0.00632, 8, (256, 688, 8, 4, 32), 1024),  # ours: a CPU decodes it in no time
    _positions(
        _two_matrix(
            _llama("gpt2", "openai-community/gpt2", 0.1244, 12, (768, 3072, 12, 12, 64), 50257, tied=True), "gpt2"
        ),
        1024,
    ),
    _llama("llama-2-7b", "meta-llama/Llama-2-7b-hf", 6.738, 32, (4096, 11008, 32, 32, 128), 32000),
    _llama("llama-2-13b", "meta-llama/Llama-2-13b-hf", 13.016, 40, (5120, 13824, 40, 40, 128), 32000),
    _llama("llama-2-70b", "meta-llama/Llama-2-70b-hf", 68.977, 80, (8192, 28672, 64, 8, 128), 32000),
    _llama("llama-3.2-1b", "meta-llama/Llama-3.2-1B", 1.236, 16, (2048, 8192, 32, 8, 64), 128256, tied=True),
    _llama("llama-3.2-3b", "meta-llama/Llama-3.2-3B", 3.213, 28, (3072, 8192, 24, 8, 128), 128256, tied=True),
    _llama("llama-3.1-8b", "meta-llama/Llama-3.1-8B", 8.030, 32, (4096, 14336, 32, 8, 128), 128256),
    _llama("llama-3.1-70b", "meta-llama/Llama-3.1-70B", 70.554, 80, (8192, 28672, 64, 8, 128), 128256),
    _llama("llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct", 70.554, 80, (8192, 28672, 64, 8, 128), 128256),
    _llama("llama-3.1-405b", "meta-llama/Llama-3.1-405B", 405.853, 126, (16384, 53248, 128, 8, 128), 128256),
    _llama("mistral-7b", "mistralai/Mistral-7B-v0.3", 7.248, 32, (4096, 14336, 32, 8, 128), 32768),
    _llama("mistral-nemo-12b", "mistralai/Mistral-Nemo-Base-2407", 12.248, 40, (5120, 14336, 32, 8, 128), 131072),
    _llama("mistral-small-24b", "mistralai/Mistral-Small-24B-Base-2501", 23.572, 40, (5120, 32768, 32, 8, 128), 131072),
    _llama("mistral-large-123b", "mistralai/Mistral-Large-Instruct-2407",
        122.61, 88, (12288, 28672, 96, 8, 128), 32768),
    _moe(_llama("mixtral-8x7b", "mistralai/Mixtral-8x7B-v0.1", 46.703, 32, (4096, 14336, 32, 8, 128), 32000), 8, 2),
    _moe(_llama("mixtral-8x22b", "mistralai/Mixtral-8x22B-v0.1", 140.62, 56, (6144, 16384, 48, 8, 128), 32000), 8, 2),
    _llama("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", 0.494, 24, (896, 4864, 14, 2, 64), 151936, tied=True, bias=True),
    _llama("qwen2.5-7b", "Qwen/Qwen2.5-7B", 7.616, 28, (3584, 18944, 28, 4, 128), 152064, bias=True),
    _llama("qwen2.5-14b", "Qwen/Qwen2.5-14B", 14.770, 48, (5120, 13824, 40, 8, 128), 152064, bias=True),
    _llama("qwen2.5-32b", "Qwen/Qwen2.5-32B", 32.764, 64, (5120, 27648, 40, 8, 128), 152064, bias=True),
    _llama("qwen2.5-72b", "Qwen/Qwen2.5-72B", 72.706, 80, (8192, 29568, 64, 8, 128), 152064, bias=True),
    _llama("qwen3-0.6b", "Qwen/Qwen3-0.6B", 0.596, 28, (1024, 3072, 16, 8, 128), 151936, tied=True, qk_norm=True),
    _llama("qwen3-4b", "Qwen/Qwen3-4B", 4.022, 36, (2560, 9728, 32, 8, 128), 151936, tied=True, qk_norm=True),
    _llama("qwen3-8b", "Qwen/Qwen3-8B", 8.191, 36, (4096, 12288, 32, 8, 128), 151936, qk_norm=True),
    _llama("qwen3-14b", "Qwen/Qwen3-14B", 14.768, 40, (5120, 17408, 40, 8, 128), 151936, qk_norm=True),
    _llama("qwen3-32b", "Qwen/Qwen3-32B", 32.762, 64, (5120, 25600, 64, 8, 128), 151936, qk_norm=True),
    _moe(
        _llama("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B", 30.532, 48, (2048, 768, 32, 4, 128), 151936, qk_norm=True),
        128, 8,
    ),
    _moe(
        _llama("qwen3-235b-a22b", "Qwen/Qwen3-235B-A22B", 235.094, 94, (4096, 1536, 64, 4, 128), 151936, qk_norm=True),
        128, 8,
    ),
    _windowed(
        _llama("gemma-2-9b", "google/gemma-2-9b", 9.242, 42, (3584, 14336, 16, 8, 256), 256000, tied=True), 4096, 21
    ),
    _windowed(
        _llama("gemma-2-27b", "google/gemma-2-27b", 27.227, 46, (4608, 36864, 32, 16, 128), 256000, tied=True), 4096, 23
    ),
    # the text half; every sixth layer sees everything
    _windowed(
        _llama("gemma-3-12b", "google/gemma-3-12b-pt", 11.766, 48, (3840, 15360, 16, 8, 256), 262208, tied=True),
        1024,
        40,
    ),
    _windowed(
        _llama("gemma-3-27b", "google/gemma-3-27b-pt", 27.009, 62, (5376, 21504, 32, 16, 128), 262208, tied=True),
        1024,
        52,
    ),
    _windowed(
        _llama("phi-3-mini", "microsoft/Phi-3-mini-4k-instruct", 3.821, 32, (3072, 8192, 32, 32, 96), 32064), 2047, 32
    ),
    _windowed(
        _llama("phi-3-medium", "microsoft/Phi-3-medium-4k-instruct", 13.96, 40, (5120, 17920, 40, 10, 128), 32064),
        2047,
        40,
    ),
    _llama("phi-4", "microsoft/phi-4", 14.66, 40, (5120, 17920, 40, 10, 128), 100352),
    _two_matrix(_llama("falcon-7b", "tiiuae/falcon-7b",
        6.92, 32, (4544, 18176, 71, 1, 64), 65024, tied=True), "falcon"),
    _two_matrix(
        _llama("falcon-40b", "tiiuae/falcon-40b", 41.3, 60, (8192, 32768, 128, 8, 64), 65024, tied=True), "falcon"
    ),
    _two_matrix(_llama("falcon-180b", "tiiuae/falcon-180B", 179.52, 80, (14848, 59392, 232, 8, 64), 65024), "falcon"),
    _two_matrix(
        _llama("bloom-7b1", "bigscience/bloom-7b1", 7.069, 30, (4096, 16384, 32, 32, 128), 250880, tied=True), "bloom"
    ),
    _two_matrix(
        _llama("bloom-176b", "bigscience/bloom", 176.247, 70, (14336, 57344, 112, 112, 128), 250880, tied=True), "bloom"
    ),
    _windowed(
        _two_matrix(
            _llama("starcoder2-15b", "bigcode/starcoder2-15b", 15.96, 40, (6144, 24576, 48, 4, 128), 49152), "gpt2"
        ),
        4096,
        40,
    ),
    _positions(
        _two_matrix(
            _llama("opt-30b", "facebook/opt-30b", 29.975, 48, (7168, 28672, 56, 56, 128), 50272, tied=True), "gpt2"
        ),
        2050,
    ),
    _moe(
        _latent(_llama("deepseek-v3", "deepseek-ai/DeepSeek-V3", 671.03, 61, _V3, 129280), 1536),
        256, 8, 1, (0, 1, 2), 18432,
    ),
    _moe(
        _latent(_llama("deepseek-r1", "deepseek-ai/DeepSeek-R1", 671.03, 61, _V3, 129280), 1536),
        256, 8, 1, (0, 1, 2), 18432,
    ),
    _moe(
        _latent(
            _llama("deepseek-v2-lite", "deepseek-ai/DeepSeek-V2-Lite", 15.706, 27, (2048, 1408, 16, 16, 128), 102400), 0
        ),
        64, 6, 2, (0,), 10944,
    ),
    _moe(
        _latent(
            _llama("kimi-k2", "moonshotai/Kimi-K2-Instruct", 1026.4, 61, (7168, 2048, 64, 64, 128), 163840), 1536
        ),
        384, 8, 1, (0,), 18432,
    ),
    _moe(
        _llama("glm-4.5-air", "zai-org/GLM-4.5-Air", 106.85, 46, (4096, 1408, 96, 8, 128), 151552),
        128, 8, 1, (0,), 10944,
    ),
    _windowed(
        _moe(
            _llama("gpt-oss-20b", "openai/gpt-oss-20b",
                20.91, 24, (2880, 2880, 64, 8, 64), 201088, bias=True, sinks=True), 32, 4
        ),
        128,
        12,
    ),
    _windowed(
        _moe(
            _llama("gpt-oss-120b", "openai/gpt-oss-120b",
                116.83, 36, (2880, 2880, 64, 8, 64), 201088, bias=True, sinks=True), 128, 4
        ),
        128,
        18,
    ),
    _llama("command-r-plus", "CohereForAI/c4ai-command-r-plus",
        103.81, 64, (12288, 33792, 96, 8, 128), 256000, tied=True),
    _llama("yi-34b", "01-ai/Yi-34B", 34.389, 60, (7168, 20480, 56, 8, 128), 64000),
    _llama("olmo-2-13b", "allenai/OLMo-2-1124-13B", 13.716, 40, (5120, 13824, 40, 40, 128), 100352),
)  # fmt: skip


# Checkpoints that are published quantised
_PUBLISHED_IN: Final = {
    "deepseek-v3": "fp8", "deepseek-r1": "fp8", "kimi-k2": "fp8", "gpt-oss-20b": "mxfp4", "gpt-oss-120b": "mxfp4",
}  # fmt: skip


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Entry]:
    """Return name → entry, in the order in which lists show them."""
    return {entry.shape.name: entry for entry in _ENTRIES}


@lru_cache(maxsize=1)
def _further() -> dict[str, tuple[str, float, str, str]]:
    """Return name → Hugging Face id, billions, own format, fields as JSON; turned into a shape on demand."""
    found = {}
    for line in table_lines("further_models.txt"):
        name, hub_id, billions, weights, config = (part.strip() for part in line.split(" | ", 4))
        found[name] = (hub_id, float(billions), weights, config)
    return found


@lru_cache(maxsize=256)
def _further_shape(name: str) -> ModelShape:
    from swarm_predict.model.hf_config import from_config  # reads the configurations of every family

    hub_id, _, weights, config = _further()[name]
    return replace(from_config(config, name), source=hub_id, weights=weights)


def further() -> dict[str, tuple[str, float]]:
    """Return the models beyond the catalogue, by name: Hugging Face id, and billions of parameters as published."""
    return {name: (hub_id, billions) for name, (hub_id, billions, _, _) in _further().items()}


def configuration(name: str) -> dict[str, Any]:
    """Return the fields of config.json of a model of `further`."""
    found: dict[str, Any] = json.loads(_further()[name][3])
    return found


@lru_cache(maxsize=1)
def _ids() -> dict[str, str]:
    """Return lower-case name, id, and id without its publisher → name."""
    by_id = {entry.hub_id.lower(): entry.shape.name for entry in _ENTRIES if entry.hub_id}
    by_id |= {hub_id.lower(): name for name, (hub_id, _, _, _) in _further().items()}
    by_id |= {hub_id.rsplit("/", 1)[-1]: name for hub_id, name in by_id.items()}
    return by_id | {name: name for name in (*_further(), *catalogue())}


@lru_cache(maxsize=1)
def _keys() -> dict[str, str]:
    """Return what a name says of a shape → name; a name of its own before an id's."""
    by_key = {key_of(known): name for known, name in _ids().items()}
    return by_key | {key_of(name): name for name in (*_further(), *catalogue())}


def _shape(name: str) -> ModelShape:
    entry = catalogue().get(name)
    return entry.shape if entry is not None else _further_shape(name)


@lru_cache(maxsize=1024)
def model_named(name: str) -> ModelShape:
    """Return the shape that a name means: built in, a Hugging Face id, an Ollama tag, or a copy of one of them.

    A name that is not exactly known keeps its own, with the shape of the model that it means. Raises UnknownModel with
    the nearest names.
    """
    exact = _ids().get(name.strip().lower())
    if exact is not None:
        return _own(_shape(exact))
    found = understand(name, frozenset(_keys()))
    if found is None:
        raise _unknown(name)
    shape = _own(_shape(_keys()[found.key]))
    notes = (f"{name[:80]} is taken to have the shape of {shape.name}, by its name",) if found.base_inside else ()
    weights = found.weights if is_format(found.weights) else "" if found.weights == "unsaid" else shape.weights
    if found.weights == OLLAMA_USUAL and shape.weights:  # published quantised: Ollama has it as it is
        weights = shape.weights
    return replace(shape, name=kept(name), weights=weights, notes=notes)


def _own(shape: ModelShape) -> ModelShape:
    """Return the shape with the format that the checkpoint itself is published in."""
    weights = _PUBLISHED_IN.get(shape.name)
    return shape if weights is None or shape.weights else _published(shape.name, weights)


@lru_cache(maxsize=64)
def _published(name: str, weights: str) -> ModelShape:
    return replace(_shape(name), weights=weights)


def _unknown(name: str) -> UnknownModel:
    near = difflib.get_close_matches(name.lower(), _ids(), n=8, cutoff=0.5)
    names = list(dict.fromkeys(_ids()[found] for found in near))[:3]
    offer = f"did you mean {' or '.join(names)}?" if names else f"known are {', '.join(catalogue())}"
    return UnknownModel(
        f"no model is called {name[:80]!r}; {offer} (or give the path of its config.json or GGUF file, or {BY_HAND})"
    )
