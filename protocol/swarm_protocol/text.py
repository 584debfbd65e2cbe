"""Clean text that came from strangers before it is stored or shown.

`is_name` is the gate: what a node may be called. `safe` is the sink: whatever reaches a terminal, a log or a
CSV cell goes through it, so that no escape sequence, bidi override or control character survives.
Markup is the screen's own business: it draws `rich.text.Text`, never markup strings.
"""

from __future__ import annotations

import re
import unicodedata

NAME_MAX = 32
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_FORMULA_FIRST = ("=", "+", "-", "@", "\t", "\r", "\n")


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def clean_name(text: str) -> str:
    """The nearest legal node name: other characters become `-`, the rest is cut; never empty."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[:NAME_MAX].strip("-")
    return kept or "node"


def safe(text: str, limit: int = 200) -> str:
    """`text` on one line with every control, format and surrogate character shown as `?`, at most `limit` long."""
    shown = "".join("?" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else c for c in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def csv_cell(text: str) -> str:
    """A text cell that no spreadsheet runs as a formula (OWASP CSV injection): a quote is put before it."""
    cleaned = safe(text, limit=1000)
    return "'" + cleaned if text.startswith(_FORMULA_FIRST) else cleaned
