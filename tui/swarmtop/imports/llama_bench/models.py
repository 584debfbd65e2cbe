"""Identify the model and weights of a row of llama-bench.

The file's name identifies the model best; llama-bench itself prints the architecture and the size ("llama 8B Q4_K -
Medium"), so a model of the catalogue with the same number of parameters is used, if there is exactly one.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import Final

from swarm_predict.model.catalogue import catalogue, further, model_named
from swarm_predict.model.names import format_of
from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import canonical, is_format
from swarm_predict.types import UnknownModel
from swarmtop.imports.findings import ImportProblem
from swarmtop.imports.llama_bench.rows import Row

WITHIN: Final = 0.05  # of the parameters: a file may hold a head of its own, or none
EXACTLY: Final = 0.0005  # where parameters alone say which model it is; norms and tables of positions differ
ROUNDED: Final = 5e-3  # of the table's figures, which have two decimals
_SHARD: Final = re.compile(r"-\d{5}-of-\d{5}$")
_QUANT: Final = re.compile(
    r"\b(?:(I?Q\d|TQ\d)((?:_[A-Z0-9]+)*)(?: - (Small|Medium|Large)| mix\b| - [\d.]+ bpw\S*)?"
    r"|(BF16|F16|F32)|(MXFP4|NVFP4)( MoE)?)",
    re.IGNORECASE,
)
_SIZES: Final = {"small": "_s", "medium": "_m", "large": "_l"}
_GIVE: Final = "give --model the name of the model, or its config.json or GGUF file"


def weights_of(row: Row) -> str:
    """Return the format in the words of `--weights`. Raises ImportProblem."""
    found = list(_QUANT.finditer(row.model_type))
    if not found:
        named = format_of(_stem(row.filename))
        if is_format(named):
            return canonical(named)
        raise ImportProblem(f"{row.model_type[:60]!r} names no format of the weights")
    match = found[-1]
    text = match[0].lower()
    if match[4]:
        name = match[4].lower().replace("f16", "fp16").replace("bfp16", "bf16").replace("f32", "fp32")
    elif match[5]:
        name = match[5].lower() + ("_moe" if match[6] else "")
    else:
        name = (match[1] + match[2]).lower() + _SIZES.get((match[3] or "").lower(), "")
        if name == "iq3_s" and " mix" in text:
            name = "iq3_m"  # what llama.cpp calls "IQ3_S mix - 3.66 bpw"
        name = {"q2_k_m": "q2_k", "q2_k_s": "q2_k"}.get(name, name)
    if not is_format(name):
        raise ImportProblem(f"the weights of {row.model_type[:60]!r} ({name}) are no format that is known")
    return canonical(name)


def fits(row: Row, shape: ModelShape) -> bool:
    return not row.n_params or abs(shape.params / row.n_params - 1) <= WITHIN


def shape_of(row: Row) -> tuple[ModelShape, str]:
    """Return the shape, by its name in the catalogue, and how that was known. Raises ImportProblem."""
    stem = _stem(row.filename)
    if stem:
        try:
            shape = model_named(stem)
        except UnknownModel:
            pass
        else:
            if fits(row, shape):
                return _catalogued(shape, stem), f"by the name of its file, {stem[:60]}"
    return _by_size(row.model_type, row.n_params), f"by its {row.n_params / 1e9:.2f} billion parameters"


def _stem(filename: str) -> str:
    last = re.split(r"[/\\]", filename.strip())[-1]
    return _SHARD.sub("", re.sub(r"\.gguf$", "", last, flags=re.IGNORECASE))


def _catalogued(shape: ModelShape, name: str) -> ModelShape:
    """Return the same model of the catalogue, with the nearest name; else the shape as it is."""
    same = [other for other in _near(shape.params) if _same(other, shape)]
    names = difflib.get_close_matches(name.lower(), [other.name for other in same], n=1, cutoff=0.0)
    return next((other for other in same if other.name in names), shape)


def _same(one: ModelShape, other: ModelShape) -> bool:
    return (one.layers, one.vocab, one.tied, one.kinds) == (other.layers, other.vocab, other.tied, other.kinds)


@lru_cache(maxsize=64)
def _near(params: float) -> tuple[ModelShape, ...]:
    """Return all models of the catalogue with about as many parameters."""
    billions = {name: entry.published_b for name, entry in catalogue().items()}
    billions |= {name: size for name, (_, size) in further().items()}
    return tuple(
        model_named(name) for name, size in billions.items() if abs(size * 1e9 / max(params, 1.0) - 1) <= 2 * WITHIN
    )


def _by_size(model_type: str, params: float) -> ModelShape:
    said = model_type[:60]
    if not params:
        raise ImportProblem(f"cannot identify model {said!r}: its parameters are not stated; {_GIVE}")
    rounded = ROUNDED * (1e9 if params >= 1e9 else 1e6)
    family = re.match(r"[a-z]+", model_type.lower())
    word = family[0] if family and family[0] != "llama" else ""  # llama is the architecture of many others
    found = [
        shape
        for shape in _near(params)
        if abs(shape.params - params) <= EXACTLY * params + rounded and word in shape.name.lower()
    ]
    if not found:
        raise ImportProblem(f"no known model has the {params / 1e9:.2f} billion parameters of {said!r}; {_GIVE}")
    if not all(_same(shape, found[0]) for shape in found):
        names = ", ".join(shape.name for shape in found[:6])
        raise ImportProblem(f"cannot identify model {said!r}: it may be {names}; {_GIVE}")
    return found[0]
