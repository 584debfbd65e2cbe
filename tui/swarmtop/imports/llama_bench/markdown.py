"""Read llama-bench's table (`-o md`, its default), and the lines about devices that ggml prints before it."""

from __future__ import annotations

import re
from typing import Final

from swarmtop.imports.findings import ImportProblem
from swarmtop.imports.llama_bench.rows import MAX_TOKENS, Row

_TEST: Final = re.compile(r"(?:pp ?(\d{1,8}))?\+?(?:tg ?(\d{1,8}))?(?: ?@ ?d(\d{1,8}))?")
_RATE: Final = re.compile(
    r"(\d{1,12}(?:\.\d+)?)(?:\s*[^\d\s.]{1,3}\s*(\d{1,12}(?:\.\d+)?))?"
)  # ± in whatever a console made of it
_PARAMS: Final = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*([MBT])")
_SCALES: Final = {"M": 1e6, "B": 1e9, "T": 1e12}
_DEVICES: Final = (
    re.compile(r"^\s*Device \d+: (.+?), (?:compute capability|gfx|VMM)", re.MULTILINE),  # CUDA, HIP
    re.compile(r"^ggml_vulkan: \d+ = (.+?) \| uma", re.MULTILINE),
    re.compile(r"^ggml_metal_(?:device_)?init: (?:GPU name:|found device:)\s*(.+)$", re.MULTILINE),
)


def is_table(text: str) -> bool:
    head = _head(text)
    return head is not None and {"model", "test", "t/s"} <= set(head)


def read(text: str) -> list[Row]:
    """Read a table. Raises ImportProblem."""
    if not is_table(text):
        raise ImportProblem("this is not a table of llama-bench: it has no columns model, test and t/s")
    device = _device(text)
    head: list[str] = []
    rows: list[Row] = []
    for line in text.splitlines():
        cells = _cells(line)
        if "test" in cells and "t/s" in cells:
            head = cells
        elif cells and head and not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            if len(cells) != len(head):
                raise ImportProblem(f"{line.strip()[:60]!r} has {len(cells)} cells, and the table {len(head)} columns")
            rows.append(_row(dict(zip(head, cells, strict=True)), device))
    if not rows:
        raise ImportProblem("this table of llama-bench has no tests")
    return rows


def _head(text: str) -> list[str] | None:
    return next((cells for line in text.splitlines() if "test" in (cells := _cells(line)) and "t/s" in cells), None)


def _cells(line: str) -> list[str]:
    stripped = line.strip()
    return [cell.strip() for cell in stripped.strip("|").split("|")] if stripped.startswith("|") else []


def _device(text: str) -> str:
    for pattern in _DEVICES:
        if found := [name.strip() for name in pattern.findall(text)]:
            return ", ".join(found if "metal" not in pattern.pattern else found[:1])
    return ""


def _row(cells: dict[str, str], device: str) -> Row:
    test, rate = _TEST.fullmatch(cells["test"]), _RATE.fullmatch(cells["t/s"])
    if test is None or not (test[1] or test[2]):
        raise ImportProblem(f"{cells['test'][:40]!r} is not a test of llama-bench, as pp512 and tg128 are")
    if rate is None or float(rate[1]) <= 0:
        raise ImportProblem(f"{cells['t/s'][:40]!r} is no rate in tokens a second")
    n_prompt, n_gen, n_depth = (int(part or 0) for part in test.groups())
    if max(n_prompt, n_gen, n_depth) > MAX_TOKENS:
        raise ImportProblem(f"{cells['test'][:40]!r} has too many tokens")
    params = _PARAMS.fullmatch(cells.get("params", ""))
    layers = cells.get("ngl", "")
    moe = cells.get("ncmoe", cells.get("n_cpu_moe", "0"))
    return Row(
        model_type=cells["model"],
        filename="",
        n_params=float(params[1]) * _SCALES[params[2]] if params else 0.0,
        backend=cells.get("backend", ""),
        device=device,
        cpu="",
        gpu_layers=int(layers) if re.fullmatch(r"-?\d{1,6}", layers) else None,
        n_prompt=n_prompt,
        n_gen=n_gen,
        n_depth=n_depth,
        tokens_per_s=float(rate[1]),
        spread_per_s=float(rate[2] or 0.0),
        kv_types=(cells.get("type_k", "f16"), cells.get("type_v", "f16")),
        experts_on_cpu=moe not in ("", "0"),
    )
