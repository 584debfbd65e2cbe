"""Read the tests of a llama-bench run, from `-o json`, `-o jsonl` and `-o csv`."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from swarmtop.imports.findings import ImportProblem

MARKS: Final = ("model_filename", "n_prompt", "n_gen", "avg_ts")  # no other tool's rows have these together
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # names become comments, of one line each
MAX_TOKENS: Final = 1 << 24
_OLD_BACKENDS: Final = ("cuda", "metal", "vulkan", "kompute", "sycl", "opencl", "rpc", "hip")  # one boolean each


@dataclass(frozen=True, slots=True)
class Row:
    """One test. `n_params` 0 and `device` "": not stated."""

    model_type: str
    filename: str
    n_params: float
    backend: str
    device: str  # cards joined by ", ", as llama-bench names them
    cpu: str
    gpu_layers: int | None
    n_prompt: int
    n_gen: int
    n_depth: int
    tokens_per_s: float
    spread_per_s: float  # standard deviation over the repetitions
    kv_types: tuple[str, str] = ("f16", "f16")
    experts_on_cpu: bool = False


def is_rows(text: str) -> bool:
    """Return whether this is JSON lines or CSV of llama-bench."""
    first = text.lstrip("\ufeff \t\r\n").partition("\n")[0]
    return all(f'"{mark}"' in first or mark in first.split(",") for mark in MARKS)


def is_row(value: Any) -> bool:
    return isinstance(value, dict) and all(mark in value for mark in MARKS)


def read(text: str) -> list[Row]:
    """Read the tests. Raises ImportProblem."""
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped.startswith("["):
        values = _json(stripped, "the file")
    elif stripped.startswith("{"):
        try:
            values = [json.loads(stripped)]  # one test, over any number of lines
        except (ValueError, RecursionError):
            lines = [line for line in stripped.splitlines() if line.strip()]
            values = [_json(line, f"line {number}") for number, line in enumerate(lines, 1)]
    else:
        try:
            values = list(csv.DictReader(stripped.splitlines()))
        except csv.Error as error:
            raise ImportProblem(f"this is not CSV ({error})") from error
    if not isinstance(values, list) or not values or not all(is_row(value) for value in values):
        raise ImportProblem("this is not an output of llama-bench; run it with -o json, -o jsonl, -o csv or -o md")
    return [_row(value, f"test {number}") for number, value in enumerate(values, 1)]


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImportProblem(f"{where} is not JSON ({error})") from error


def _row(value: Mapping[str, Any], where: str) -> Row:
    n_prompt, n_gen = _count(value, "n_prompt", where), _count(value, "n_gen", where)
    rate = _number(value, "avg_ts", where)
    if rate <= 0:
        raise ImportProblem(f"{where}: avg_ts is {rate:g}; a test that ran has a rate")
    layers = value.get("n_gpu_layers")
    return Row(
        model_type=_text(value, "model_type"),
        filename=_text(value, "model_filename"),
        n_params=_number(value, "model_n_params", where),
        backend=_text(value, "backends") or _text(value, "backend") or _old_backend(value),
        device=_text(value, "gpu_info").strip(),
        cpu=_text(value, "cpu_info").strip(),
        gpu_layers=None if layers in (None, "") else int(_number(value, "n_gpu_layers", where, least=-1)),
        n_prompt=n_prompt,
        n_gen=n_gen,
        n_depth=_count(value, "n_depth", where),
        tokens_per_s=rate,
        spread_per_s=_number(value, "stddev_ts", where),
        kv_types=(_text(value, "type_k") or "f16", _text(value, "type_v") or "f16"),
        experts_on_cpu=_count(value, "n_cpu_moe", where) > 0,
    )


def _old_backend(value: Mapping[str, Any]) -> str:
    return ",".join(name.upper() for name in _OLD_BACKENDS if value.get(name) in (True, "true", "1", 1)) or "CPU"


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return " ".join(_CONTROL.sub(" ", found).split()) if isinstance(found, str) else ""


def _number(value: Mapping[str, Any], key: str, where: str, least: float = 0.0) -> float:
    found = value.get(key)
    if found in (None, ""):
        return 0.0
    try:
        number = math.nan if isinstance(found, bool) else float(found)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < least:
        raise ImportProblem(f"{where}: {key} is {str(found)[:40]!r}, which is no such figure")
    return number


def _count(value: Mapping[str, Any], key: str, where: str) -> int:
    number = _number(value, key, where)
    if number != int(number) or number > MAX_TOKENS:
        raise ImportProblem(f"{where}: {key} is {number:g}, which is not a number of tokens")
    return int(number)
