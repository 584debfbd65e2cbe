"""Defuse text cells of CSV that a spreadsheet would run as formulas (OWASP, CSV injection)."""

from __future__ import annotations

from typing import Final

from swarm_protocol.text import safe

LENGTH_MAX: Final = 1000
_FORMULA_FIRST: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_cell(text: str) -> str:
    """Return a text cell that no spreadsheet runs as a formula: prefix it with a quote."""
    cleaned = safe(text, limit=LENGTH_MAX)
    return "'" + cleaned if text.startswith(_FORMULA_FIRST) else cleaned
