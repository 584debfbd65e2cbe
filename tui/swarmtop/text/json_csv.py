"""Format values for JSON and CSV: plain numbers, only finite ones, and no text that a spreadsheet would run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final

from swarm_protocol.csv_cells import csv_cell

Value = int | float | str | bool | None


def dumps(value: object) -> str:
    """Return one line of strict JSON: NaN and infinity become null."""
    return json.dumps(_finite(value), allow_nan=False)


DIGITS: Final = 6  # significant: nothing here is more precise


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _finite(value: object) -> object:
    if isinstance(value, float):
        return rounded(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(inner) for inner in value]
    return value


def cell(value: Value) -> int | float | str:
    """Return a CSV cell: empty if nothing is known."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return csv_cell(value) if isinstance(value, str) else value
