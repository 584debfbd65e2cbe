"""Read the weight format of a checkpoint: `quantization_config`, MLX's `quantization`, or its dtype.

Which matrices were left alone (`ignore`, `modules_to_not_convert`) or packed otherwise (`quantized_layers`, MLX's
entries by module) is read for three parts of each layer: attention, the MLP that every token passes, routed experts.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec

from swarm_predict.errors import UnknownModel
from swarm_predict.model.blocks import SMALL_BYTES, Block
from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import is_format
from swarm_protocol.units import BITS_PER_BYTE

Part = Literal["attention", "mlp", "experts"]

PLAIN_BITS: Final = 16.0
_FP8_BITS: Final = 8 + 32 / 128**2  # a 32-bit scale for each 128 × 128 block
_NAMES: Final[dict[str, float]] = {
    "nvfp4": 4.5, "mxfp4": 4.25, "mxfp8": 8.25, "fp8": _FP8_BITS, "int8": 8.0, "nf4": 4.5, "fp4": 4.5,
}  # fmt: skip
_PREFIXES: Final = ("model.", "model.language_model.", "language_model.model.", "language_model.", "backbone.", "")
_MODULES: Final[dict[Part, tuple[str, ...]]] = {
    "attention": (
        "self_attn.q_proj", "self_attn.o_proj", "self_attn.q_b_proj", "linear_attn.in_proj_qkv", "linear_attn.out_proj",
        "attn.wq_b", "mixer.q_proj", "mixer.in_proj", "attention.wq",
    ),
    "mlp": (
        "mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj", "block_sparse_moe.shared_experts.gate_proj",
        "ffn.shared_experts.w1", "mixer.shared_experts.up_proj", "mlp.gate_proj", "mixer.up_proj", "mlp.up_proj",
    ),
    "experts": (
        "mlp.experts.0.gate_proj", "block_sparse_moe.experts.0.w1", "ffn.experts.0.w1", "mixer.experts.0.up_proj",
        "mlp.switch_mlp.gate_proj", "experts.gate_up_proj", "mlp.experts.gate_up_proj", "moe.experts.0.gate_proj",
    ),
}  # fmt: skip
_SHARED: Final = ("shared_expert",)
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)(?=$|[.*])")
MAX_ENTRIES: Final = 200_000


@dataclass(frozen=True, slots=True)
class _Scheme:
    name: str
    bits: float
    expert_bits: float | None = None  # where experts are packed otherwise, whatever else says
    rest_plain: bool = False  # only experts are packed
    ends: bool = False  # embedding and head as well


def own_format(shape: ModelShape, config: Mapping[str, Any]) -> ModelShape:
    """Return the shape with the checkpoint's own format as `weights`. Raises UnknownModel for an unknown format."""
    found_scheme = _scheme_of(config, shape.name)
    if found_scheme is None:
        dtype = config.get("dtype") or config.get("torch_dtype")
        return replace(shape, weights="bf16") if dtype in ("bfloat16", "torch.bfloat16") else shape
    given, scheme = found_scheme
    if config.get("expert_dtype") == "fp4" and scheme.name == "fp8":  # DeepSeek V4: experts in MXFP4 beside FP8
        scheme = replace(scheme, name="mxfp4", expert_bits=_NAMES["mxfp4"])
    scheme = _named(scheme, shape.name)
    lists = _Lists(given, scheme, "gemma4" in shape.source)
    known: dict[tuple[Block, float, float, float], Block] = {}
    found = []
    for i, block in enumerate(shape.all_blocks):
        attention, mlp, experts = (lists.bits(part, i, moe=block.experts > 0) for part in _MODULES)
        key = (block, attention, mlp, experts)
        if key not in known:
            known[key] = _packed(block, scheme.name, attention, mlp, experts)
        found.append(known[key])
    plain = shape.vocab * shape.hidden * PLAIN_BITS / BITS_PER_BYTE
    ends = shape.vocab * shape.hidden * scheme.bits / BITS_PER_BYTE
    head = ends if scheme.ends or lists.head_packed() else plain
    return replace(shape, blocks=tuple(found), weights=scheme.name, end_bytes=(ends if scheme.ends else plain, head))


def _scheme_of(config: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], _Scheme] | None:
    """Return (what lists modules, how most weights are packed); None: they are not."""
    given, mlx = config.get("quantization_config"), config.get("quantization")
    if not isinstance(given, Mapping):
        given = {}
    if given and ("quant_method" in given or "quant_algo" in given or "config_groups" in given):
        scheme = _scheme(given, name)
        return None if scheme is None else (given, scheme)
    packed = mlx if isinstance(mlx, Mapping) and mlx else given
    if "bits" not in packed:
        return None
    return {"quantized_layers": packed}, _mlx(packed, name)


def _named(scheme: _Scheme, name: str) -> _Scheme:
    """Return a name that `--weights` knows: bits a weight, if there is none."""
    for known in (scheme.name, f"{scheme.bits:.4g}bpw"):
        if is_format(known):
            return replace(scheme, name=known)
    raise UnknownModel(
        f"{name}: quantization says {scheme.bits:g} bits a weight; remove it from the config.json and give --weights"
    )


def _packed(block: Block, name: str, attention: float, mlp: float, experts: float) -> Block:
    rest = block.matrices - block.mlp_matrices
    expert_bytes = block.expert_matrices * experts / BITS_PER_BYTE
    size = (rest * attention + block.mlp_matrices * mlp) / BITS_PER_BYTE + block.small * SMALL_BYTES
    return msgspec.structs.replace(
        block, own_format=name, own_bytes=size + block.experts * expert_bytes, own_expert_bytes=expert_bytes
    )


def _scheme(given: Mapping[str, Any], name: str) -> _Scheme | None:
    method = str(given.get("quant_method") or "").lower()
    algo = str(given.get("quant_algo") or "").upper()
    bits, group = (
        _number(given.get("bits", given.get("w_bit"))),
        _number(given.get("group_size", given.get("q_group_size"))),
    )
    if algo and algo != "MIXED_PRECISION":
        return _by_algorithm(algo, name)
    if algo or method == "modelopt" or method == "compressed-tensors":
        return _by_groups(given, name)
    if method in ("fp8", "fbgemm_fp8", "fp8_e4m3"):
        return _Scheme("fp8", _FP8_BITS if given.get("weight_block_size") else 8.0)
    if method == "mxfp4":
        return _Scheme("mxfp4", _NAMES["mxfp4"], rest_plain=True)
    if method in ("awq", "gptq", "auto-round", "intel/auto-round", "gptqmodel"):
        each = bits or 4.0
        label = "awq" if method == "awq" else "gptq"
        usual = each == 4 and (group or 128) == 128
        size = each + (16 + each) / group if group and group > 0 else each
        return _Scheme(label if usual else f"{label}-{each:g}bit-g{group or 0:g}".removesuffix("-g-1"), size)
    if method in ("exl2", "exl3") and bits:
        return _Scheme(f"{bits:g}bpw", bits)
    if method in ("bitsandbytes", "bnb"):
        four = given.get("load_in_4bit") is True or bits == 4
        double = given.get("bnb_4bit_use_double_quant") is True
        return _Scheme("nf4_dq" if double else "nf4", 4.127 if double else 4.5) if four else _Scheme("int8", 8.0)
    if method == "bitnet":
        return _Scheme("2bpw", 2.0)
    if method in ("hqq", "quanto", "eetq", "torchao", "aqlm", "quip", "vptq", "higgs", "spqr") and bits:
        return _Scheme(f"{bits:g}bpw", bits + (32 / group if group and group > 0 else 0.0))
    if method == "eetq":
        return _Scheme("int8", 8.0)
    if not method and not algo:
        return None
    raise UnknownModel(
        f"{name}: quantization_config has quant_method {method[:40]!r}, which is not understood; "
        "remove it from the config.json and give --weights, as 4.5bpw"
    )


_BLOCK_FP8 = _Scheme("fp8", _FP8_BITS)
_ALGORITHMS: Final[dict[str, _Scheme]] = {
    **dict.fromkeys(("FP8", "FP8_PER_CHANNEL_PER_TOKEN"), _Scheme("fp8", 8.0)),
    **dict.fromkeys(("FP8_PB_WO", "FP8_BLOCK_SCALES"), _BLOCK_FP8),
    **dict.fromkeys(("NVFP4", "W4A16_NVFP4", "NVFP4_AWQ", "W4A8_NVFP4_FP8"), _Scheme("nvfp4", 4.5)),
    **dict.fromkeys(("MXFP4", "W4A16_MXFP4", "W4A8_MXFP4_FP8"), _Scheme("mxfp4", 4.25)),
    "MXFP8": _Scheme("mxfp8", 8.25),
    **dict.fromkeys(("INT8_SQ", "W8A8_SQ_PER_CHANNEL", "W8A16"), _Scheme("int8", 8.0)),
    **dict.fromkeys(("W4A16_AWQ", "W4A16", "W4A8_AWQ", "INT4_AWQ"), _Scheme("awq", 4 + 20 / 128)),
    "W4A16_GPTQ": _Scheme("gptq", 4 + 20 / 128),
}


def _by_algorithm(algo: str, name: str) -> _Scheme:
    if algo not in _ALGORITHMS:
        raise UnknownModel(
            f"{name}: quant_algo {algo[:40]!r} is not understood; remove quantization_config from the config.json and "
            "give --weights, as 4.5bpw"
        )
    return _ALGORITHMS[algo]


def _by_groups(given: Mapping[str, Any], name: str) -> _Scheme:
    """Read compressed-tensors and ModelOpt: the smallest group gives the name, since most of the weights are in it."""
    groups = given.get("config_groups")
    found = []
    for group in groups.values() if isinstance(groups, Mapping) else ():
        packed = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(packed, Mapping) and (bits := _number(packed.get("num_bits"))):
            found.append(_group(bits, str(packed.get("type")), _number(packed.get("group_size"))))
    if not found:
        named = _entries(given.get("quantized_layers"))
        algorithms = {str(v.get("quant_algo")).upper() for _, v in named if isinstance(v, Mapping)} - {"NONE"}
        found = [_by_algorithm(algo, name) for algo in sorted(algorithms)]
    if not found:
        raise UnknownModel(
            f"{name}: quantization_config says neither bits nor groups; remove it from the config.json and give "
            "--weights, as 4.5bpw"
        )
    return min(found, key=lambda scheme: scheme.bits)


def _group(bits: float, kind: str, group: float | None) -> _Scheme:
    if bits == 4 and kind == "float":
        return _Scheme("nvfp4", 4.5) if group in (None, 16) else _Scheme("mxfp4", 4.25)
    if bits == 8:
        label = "fp8" if kind == "float" else "int8"
        if group == 32 and kind == "float":
            return _Scheme("mxfp8", 8.25)
        return _Scheme(label, 8.0 + (16 / group if group and group > 0 else 0.0))
    size = bits + (16 / group if group and group > 0 else 0.0)
    return _Scheme("int4" if bits == 4 and group in (None, 128) else f"int{bits:g}-g{group or 0:g}", size)


def _mlx(given: Mapping[str, Any], name: str) -> _Scheme:
    bits, group = _number(given.get("bits")), _number(given.get("group_size")) or 64.0
    mode = str(given.get("mode") or "affine")
    if not bits:
        raise UnknownModel(
            f"{name}: MLX's quantization says no bits; remove it from the config.json and give --weights"
        )
    if mode == "affine":
        label = f"mlx-{bits:g}bit" + (f"-g{group:g}" if group != 64 else "")
        return _Scheme(label, bits + 32 / group, ends=True)
    return _Scheme(f"mlx-{mode}" if mode in ("mxfp4", "nvfp4") else mode, bits + 8 / group, ends=True)


class _Lists:
    """The modules that were left alone, and those that were packed in a way of their own."""

    def __init__(self, given: Mapping[str, Any], scheme: _Scheme, experts_apart: bool) -> None:
        self._scheme, self._experts_apart = scheme, experts_apart
        self._ignored: dict[int | None, list[str]] = {}
        for entry, _ in _entries(
            _first(given, "ignore", "exclude_modules", "modules_to_not_convert", "ignored_layers")
        ):
            self._ignored.setdefault(_layer_of(entry), []).append(entry)
        self._own: dict[int | None, list[tuple[str, float]]] = {}
        for entry, value in _entries(given.get("quantized_layers")):
            size = _own_bits(value)
            if size is not None and "." in entry:
                self._own.setdefault(_layer_of(entry), []).append((entry, size))
        # groups of unlike formats say by module which of them it is in
        groups = given.get("config_groups")
        for group in groups.values() if isinstance(groups, Mapping) and len(groups) > 1 else ():
            packed = group.get("weights") if isinstance(group, Mapping) else None
            if isinstance(packed, Mapping) and (bits := _number(packed.get("num_bits"))):
                size = _group(bits, str(packed.get("type")), _number(packed.get("group_size"))).bits
                for entry, _ in _entries(group.get("targets")):
                    if entry != "Linear":
                        self._own.setdefault(_layer_of(entry), []).append((entry, size))

    def bits(self, part: Part, layer: int, *, moe: bool) -> float:
        names = [
            f"{prefix}layers.{layer}.{module}"
            for module in _MODULES[part]
            if part != "mlp" or any(word in module for word in _SHARED) == moe
            for prefix in _PREFIXES
            if not (self._experts_apart and part == "experts" and module.startswith("mlp."))  # beside the MLP
        ]
        if part == "experts" and self._scheme.expert_bits is not None:
            return self._scheme.expert_bits
        if part != "experts" and self._scheme.rest_plain:
            return PLAIN_BITS
        for entry, size in self._own.get(layer, []) + self._own.get(None, []):
            if any(_covers(entry, name) for name in names):
                return size
        for entry in self._ignored.get(layer, []) + self._ignored.get(None, []):
            if any(_covers(entry, name) for name in names if "switch_mlp" not in name):
                return PLAIN_BITS
        return self._scheme.bits

    def head_packed(self) -> bool:
        return any(entry == "lm_head" for entry, _ in self._own.get(None, []))


def _first(given: Mapping[str, Any], *keys: str) -> Any:
    return next((given[key] for key in keys if given.get(key)), None)


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in list(value.items())[:MAX_ENTRIES])
    elif isinstance(value, list):
        yield from ((item, None) for item in value[:MAX_ENTRIES] if isinstance(item, str))


def _own_bits(value: Any) -> float | None:
    if value is False:
        return PLAIN_BITS
    if not isinstance(value, Mapping):
        return None
    if (algo := value.get("quant_algo")) is not None:
        return _by_algorithm(str(algo).upper(), "quantized_layers").bits
    if bits := _number(value.get("bits")):
        group = _number(value.get("group_size")) or 64.0
        return bits + (32 if value.get("mode", "affine") == "affine" else 8) / group
    return None


def _layer_of(entry: str) -> int | None:
    match = None if entry.startswith("re:") else _LAYER.search(entry)
    return int(match[1]) if match else None


def _covers(entry: str, name: str) -> bool:
    if entry.startswith("re:"):
        try:
            return re.match(entry[3:203], name) is not None
        except re.error:
            return False
    if any(sign in entry for sign in "*?["):
        return fnmatch.fnmatchcase(name, entry) or fnmatch.fnmatchcase(name, f"{entry}.*")
    if name == entry or name.startswith(f"{entry}.") or entry.startswith(f"{name}."):
        return True
    if "layers." in entry:
        return entry.endswith(name) and len(entry) > len(name)
    return f".{entry}." in f".{name}."


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6 else None
