"""Clean untrusted text before it is stored or shown.

`is_name` decides what a node may be called. `safe` is for output: whatever reaches a terminal, a log or a CSV cell goes
through it, so that no escape sequence, bidi override or control character survives. Screens draw `rich.text.Text`,
never markup strings.
"""

from __future__ import annotations

import re

NAME_MAX = 32
_SPACES = frozenset("\u00a0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))))  # not "printable"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def clean_name(text: str) -> str:
    """Return the nearest valid node name: other characters become `-`, the rest is cut; never empty."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[:NAME_MAX].strip("-")
    return kept or "node"


def safe(text: str, limit: int = 200) -> str:
    """Return `text` on one line with every control, format and surrogate character shown as `?`, `limit` long at
    most."""
    # `unicodedata` would say the same and is half a megabyte of a probe
    shown = text if text.isprintable() else "".join(c if c.isprintable() or c in _SPACES else "?" for c in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
