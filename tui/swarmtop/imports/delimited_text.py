"""Read delimited tables as people and spreadsheets write them: commas, semicolons or tabs, decimal commas, units."""

from __future__ import annotations

import csv
import math
import re
from typing import Final

from swarmtop.imports.findings import ImportProblem

MISSING: Final = ("", "-", "–", "—", "nan", "na", "n/a", "null", "none", "x", "*")
_SEPARATORS: Final = ("\t", ";", ",", "|")
_TIMES_MS: Final = {"ms": 1.0, "msec": 1.0, "s": 1e3, "sec": 1e3, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "usec": 1e-3}
_RATES_MBPS: Final = {
    "mbps": 1.0, "mbit/s": 1.0, "gbps": 1e3, "gbit/s": 1e3, "kbps": 1e-3, "kbit/s": 1e-3,
}  # fmt: skip  # not MB/s: spelled without care it means bits as often as bytes
_CELL: Final = re.compile(r"([+-]?\d*(?:[.,]\d+)?(?:[eE][+-]?\d{1,3})?|[+-]?\d+[.,]?)\s*([^\d\s.,+-].*)?")


def separator_of(line: str) -> str:
    """Return the separator of the first line's cells: a tab before a semicolon before a comma."""
    return next((sign for sign in _SEPARATORS if sign in line), ",")


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of every line that has any. Raises ImportProblem."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return []
    between = separator_of(lines[0])
    if between == "," and "," not in lines[0]:  # columns set apart by spaces
        return [re.split(r"\s+", line.strip()) if line[:1].strip() else ["", *line.split()] for line in lines]
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=between)]
    except csv.Error as error:
        raise ImportProblem(f"this is not CSV ({error})") from error
    if between == "|":  # a table with a border on both sides
        rows = [row[1:-1] if row[0] == "" and row[-1] == "" and len(row) > 2 else row for row in rows]
        rows = [row for row in rows if not all(re.fullmatch(r":?-{2,}:?|", cell) for cell in row)]
    rows = [row for row in rows if any(row)]
    if len(rows) > 1 and all(len(row) > 1 and row[-1] == "" for row in rows):  # every line ends with a separator
        rows = [row[:-1] for row in rows]
    return rows


def number_of(cell: str, where: str, figure: str, unit: str = "ms") -> float | None:
    """Return the value of a cell in the unit of `figure` (rtt_ms, jitter_ms, loss, mbps); None: not measured.

    `unit` is that of a time without one. Raises ImportProblem.
    """
    text = cell.strip().lower()
    if text in MISSING:
        return None
    match = _CELL.fullmatch(text)
    try:
        value = float(match[1].replace(",", ".")) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or (math.isnan(value)):
        raise ImportProblem(f"{where}: {cell.strip()[:40]!r} is not a number")
    value *= _scale(match[2], figure, unit, where, cell)
    if not math.isfinite(value) or value < 0:
        raise ImportProblem(f"{where}: {cell.strip()[:40]} is out of range; figures are not negative")
    return value


def _scale(written: str | None, figure: str, unit: str, where: str, cell: str) -> float:
    word = (written or "").strip().replace(" ", "")
    known: dict[str, float]
    if figure in ("rtt_ms", "jitter_ms"):
        known, word = _TIMES_MS, word or unit
    elif figure == "mbps":
        known, word = _RATES_MBPS, word or "mbps"
    else:
        known, word = {"%": 0.01, "": 1.0}, word
    if word not in known:
        raise ImportProblem(f"{where}: the unit of {cell.strip()[:40]!r} is not known; there are {', '.join(known)}")
    return known[word]
