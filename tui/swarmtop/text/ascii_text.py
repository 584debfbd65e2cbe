"""Replace signs that a terminal or file cannot hold: `>=` for ≥, `->` for →, bars in ASCII.

Two forms of the same text: cell for cell, where a screen's columns must stay, and readable, where a sign may take more
than one character.
"""

from __future__ import annotations

import codecs
import os
import unicodedata
from collections.abc import Mapping
from typing import Final, TextIO

CELLS: Final[Mapping[str, str]] = {
    "…": ".", "–": "-", "−": "-", "≥": ">", "≤": "<", "×": "x", "±": "~", "·": ".", "•": "*", "●": "*", "‖": "|",
    "«": "<", "▶": ">", "⏎": "^", "→": ">", "←": "<", "↑": "^", "↓": "v", "▲": "!", "▼": "v", "⋮": ":", "Δ": "d",
    "│": "|", "─": "-", "┌": "+", "┐": "+", "└": "+", "┘": "+", "┤": "|", "├": "|", "┼": "+", "╌": "~", "━": "=",
    "◆": "!", "◇": "o", "○": "o",
    "█": "#", "▓": "%", "▒": "+", "░": ":", "▁": "_", "▂": ".", "▃": ":", "▄": "-", "▅": "=", "▆": "+", "▇": "*",
    "▏": ":", "▎": ":", "▍": "-", "▌": "-", "▋": "=", "▊": "=", "▉": "#", "╵": "'", "╷": ".", "╶": "-", "╴": "-",
    "⠁": ":", "⠄": ":", "⠅": ":", "▀": '"', "°": "'", "µ": "u", "½": "2",
}  # fmt: skip
_READABLE: Final[Mapping[str, str]] = {
    **CELLS, "…": "...", "≥": ">=", "≤": "<=", "±": "+/-", "→": "->", "←": "<-", "▲": "^", "—": "--", "½": "1/2",
    "°": " deg", "«": '"', "»": '"', "“": '"', "”": '"', "‘": "'", "’": "'", "∞": "inf", "≈": "~", "\u00a0": " ",
}  # fmt: skip
ERRORS: Final = "swarmtop.ascii"  # of a stream: its name as an error handler
SIGNS: Final = "".join(CELLS)  # what a stream has to hold for the screens and tables to be drawn with them


def readable(text: str) -> str:
    """`≥38.0 → 40` as `>=38.0 -> 40`; letters lose their accents, and what has no stand-in is a `?`."""
    return text if text.isascii() else "".join(map(_stand_in, text))


def _stand_in(character: str) -> str:
    if character.isascii():
        return character
    if character in _READABLE:
        return _READABLE[character]
    if 0x2800 <= ord(character) <= 0x28FF:  # charts of dots
        return "*" if character != "\u2800" else " "
    plain = "".join(c for c in unicodedata.normalize("NFKD", character) if c.isascii())
    return plain or ("" if unicodedata.combining(character) else "?")


def holds_signs(stream: TextIO) -> bool:
    """Return whether the signs can be written to this stream as they are."""
    try:
        SIGNS.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def as_written(text: str, stream: TextIO) -> str:
    """Return `text` as a reader of this prepared stream sees it, which decides the width of columns."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text if text.isascii() else text.encode(encoding, ERRORS).decode(encoding)


def prepare(stream: TextIO) -> None:
    """From here on the stream takes any text: what it cannot hold is written in its readable form."""
    if not hasattr(stream, "reconfigure"):
        return
    if stream.isatty() and plain_locale(os.environ):
        stream.reconfigure(encoding="ascii")
    stream.reconfigure(errors=ERRORS)


def plain_locale(environment: Mapping[str, str]) -> bool:
    """Return whether a person has chosen the C locale. Python takes it for UTF-8 and sets LC_CTYPE; a locale that
    nobody has set at all, as in most containers, is no choice."""
    if environment.get("PYTHONIOENCODING") or environment.get("PYTHONUTF8") == "1":
        return False
    if every := environment.get("LC_ALL"):
        return every in ("C", "POSIX")
    by_python = ("", "C", "POSIX", "C.UTF-8", "C.utf8", "UTF-8")
    return environment.get("LANG") in ("C", "POSIX") and environment.get("LC_CTYPE", "") in by_python


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return readable(error.object[error.start : error.end]), error.end


codecs.register_error(ERRORS, _replaced)
