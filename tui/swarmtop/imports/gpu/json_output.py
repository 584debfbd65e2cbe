"""Read the JSON of amd-smi, rocm-smi and gpustat.

amd-smi static --asic --vram --json        a list of cards, or {"gpu_data": [...]}; its MB are 2²⁰ bytes
rocm-smi --showproductname --showmeminfo vram --json     {"card0": {...}}; numbers are text
gpustat --json                             one machine by its hostname; MiB
"""

from __future__ import annotations

import re
from typing import Any, Final

from swarmtop.imports.findings import ImportProblem
from swarmtop.imports.gpu.card import Card, Machines, free_of, number

MIB: Final = 1 << 20
_AMD_UNITS: Final = {"B": 1, "KB": 1 << 10, "MB": MIB, "GB": 1 << 30, "MIB": MIB, "GIB": 1 << 30}
_ROCM_NAMES: Final = ("Card Series", "Card series", "Device Name", "Card Model", "Card model", "Card SKU")
AMD_ADVICE: Final = "amd-smi static --asic --vram --json prints names and memory"
ROCM_ADVICE: Final = "rocm-smi --showproductname --showmeminfo vram --json prints names and memory"


def machines(file: Any) -> tuple[str, Machines]:
    """Return the writing program, and its machines. Raises ImportProblem for any other file."""
    if isinstance(file, dict) and isinstance(file.get("gpus"), list):
        return "gpustat", gpustat(file)
    if isinstance(file, dict) and any(re.fullmatch(r"card\d+", str(key)) for key in file):
        return "rocm-smi", {"": rocm(file)}
    listed = file.get("gpu_data") if isinstance(file, dict) else file
    if isinstance(listed, list) and any(isinstance(each, dict) and "gpu" in each for each in listed):
        return "amd-smi", {"": amd(listed)}
    raise ImportProblem(f"this JSON is not of amd-smi, rocm-smi or gpustat; {AMD_ADVICE}")


def gpustat(file: dict[str, Any]) -> Machines:
    host = file.get("hostname")
    cards = []
    for each in file["gpus"]:
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise ImportProblem("a card of gpustat has no name")
        where = f"memory of {each['name'][:40]}"
        total, used = (_scaled(number(each.get(f"memory.{what}"), where), MIB) for what in ("total", "used"))
        cards.append(Card(each["name"], total, free_of(total, used, None)))
    if not cards:
        raise ImportProblem("gpustat found no card on this machine")
    return {host if isinstance(host, str) else "": cards}


def rocm(file: dict[str, Any]) -> list[Card]:
    cards = []
    for key, each in file.items():
        if not re.fullmatch(r"card\d+", str(key)) or not isinstance(each, dict):
            continue
        names = (each.get(name) for name in _ROCM_NAMES)
        name = next((n for n in names if isinstance(n, str) and not re.match(r"0x|n/?a$|$", n, re.IGNORECASE)), None)
        if name is None:
            raise ImportProblem(f"{key} has no name; {ROCM_ADVICE}")
        total = number(each.get("VRAM Total Memory (B)"), f"memory of {key}")
        used = number(each.get("VRAM Total Used Memory (B)"), f"used memory of {key}")
        cards.append(Card(name, total, free_of(total, used, None)))
    if not cards:
        raise ImportProblem(f"no card in this; {ROCM_ADVICE}")
    return cards


def amd(listed: list[Any]) -> list[Card]:
    cards = []
    for each in listed:
        if not isinstance(each, dict):
            continue
        where = f"gpu {str(each.get('gpu', '?'))[:10]}"
        name = _text(each, "asic", "market_name") or _text(each, "board", "product_name")
        if name is None:
            raise ImportProblem(f"{where} has no market_name; {AMD_ADVICE}")
        vram, usage = each.get("vram"), each.get("mem_usage")
        vram = vram if isinstance(vram, dict) else {}
        usage = usage if isinstance(usage, dict) else {}
        total = _amount(vram.get("size", usage.get("total_vram")), f"memory of {where}")
        used = _amount(usage.get("used_vram"), f"used memory of {where}")
        free = _amount(usage.get("free_vram"), f"free memory of {where}")
        cards.append(Card(name, total, free_of(total, used, free), _gbps(vram.get("max_bandwidth"), where)))
    return cards


def _text(each: dict[str, Any], group: str, key: str) -> str | None:
    held = each.get(group)
    value = held.get(key) if isinstance(held, dict) else None
    return value if isinstance(value, str) and value.strip().upper() not in ("", "N/A") else None


def _amount(value: Any, where: str) -> float | None:
    """Return the bytes of {"value": 24560, "unit": "MB"}, of "24560 MB", or of a number of MB."""
    unit = "MB"
    if isinstance(value, dict):
        value, unit = value.get("value"), str(value.get("unit", unit))
    elif isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", value)):
        value, unit = match[1], match[2]
    scale = _AMD_UNITS.get(unit.strip().upper())
    if scale is None:
        raise ImportProblem(f"{where} is in {unit[:20]!r}, which is not a unit of memory")
    return _scaled(number(value, where), scale)


def _gbps(value: Any, where: str) -> float | None:
    if isinstance(value, dict):
        unit = str(value.get("unit", "GB/s")).strip().upper()
        if unit != "GB/S":
            return None
        value = value.get("value")
    return number(value, f"bandwidth of {where}") or None


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
