"""Draw a figure three lines high, to be read from a distance."""

from __future__ import annotations

from typing import Final

_DRAWN: Final = {
    "0": ("┌─┐", "│ │", "└─┘"), "1": (" ╷ ", " │ ", " ╵ "), "2": ("╶─┐", "┌─┘", "└─╴"), "3": ("╶─┐", "╶─┤", "╶─┘"),
    "4": ("╷ ╷", "└─┤", "  ╵"), "5": ("┌─╴", "└─┐", "╶─┘"), "6": ("┌─╴", "├─┐", "└─┘"), "7": ("╶─┐", "  │", "  ╵"),
    "8": ("┌─┐", "├─┤", "└─┘"), "9": ("┌─┐", "└─┤", "╶─┘"), ".": (" ", " ", "•"), "–": ("   ", "╶─╴", "   "),
}  # fmt: skip


def digits(figure: str) -> tuple[str, str, str]:
    """Return three lines of digits, points and dashes; other characters are left out."""
    drawn = [_DRAWN[character] for character in figure if character in _DRAWN]
    top, middle, low = (" ".join(each[y] for each in drawn) for y in range(3))
    return top, middle, low
