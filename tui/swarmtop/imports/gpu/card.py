"""Describe one GPU as a monitor states it, and parse memory in the units of monitors."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from swarmtop.imports.findings import ImportProblem

_UNITS: Final = {
    "b": 1, "byte": 1, "bytes": 1, "kib": 1 << 10, "kb": 1e3, "mib": 1 << 20, "mb": 1e6, "gib": 1 << 30, "gb": 1e9,
    "tib": 1 << 40, "tb": 1e12,
}  # fmt: skip
_AMOUNT: Final = re.compile(r"(\d+(?:[.,]\d+)?)\s*([A-Za-z]*)")
_UNSAID: Final = re.compile(r"\[?(n/?a|not supported|unknown error|insufficient permissions|)\]?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU. None: the monitor does not state it."""

    device: str
    total_bytes: float | None = None
    free_bytes: float | None = None
    mem_gbps: float | None = None


Machines = dict[str, list[Card]]  # by what the monitor calls them; "" where it names none


def free_of(total: float | None, used: float | None, free: float | None, reserved: float | None = None) -> float | None:
    """Return what is free: as stated, else what is not used; without either, all of it."""
    if free is not None or total is None:
        return free
    return max(0.0, total - (used or 0.0) - (reserved or 0.0)) if used is not None else total


def amount_bytes(cell: str, unit: str, where: str) -> float | None:
    """Return the bytes of `15360 MiB`, `15,0 GiB` or `15360` (then in `unit`); None for [N/A]. Raises ImportProblem."""
    text = cell.strip()
    if _UNSAID.fullmatch(text):
        return None
    match = _AMOUNT.fullmatch(text)
    scale = _UNITS.get((match[2] or unit).lower()) if match else None
    if match is None or scale is None:
        raise ImportProblem(f"{where}: {text[:40]!r} is not an amount of memory")
    return float(match[1].replace(",", ".")) * scale


def number(value: Any, where: str) -> float | None:
    """Return the number of a JSON value that some versions write as text; None: not stated. Raises ImportProblem."""
    if value is None or (isinstance(value, str) and _UNSAID.fullmatch(value.strip())):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise ImportProblem(f"{where} is {str(value)[:40]!r}, not a number") from None
    if not math.isfinite(found) or found < 0 or isinstance(value, bool):
        raise ImportProblem(f"{where} is {str(value)[:40]}, out of range")
    return found
