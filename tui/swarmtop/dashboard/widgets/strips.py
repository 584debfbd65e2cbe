"""Render styled lines for the terminal: roles become colours, and every text is cleaned a last time.

This is the only sink. Control characters, escapes and bidi overrides in a name end here, whatever let them through
before; there is no markup to interpret, because segments carry text. In ASCII mode each drawn character has a stand-in
of the same width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from swarmtop.dashboard.lines.styled import Line, clean, fit
from swarmtop.dashboard.widgets.colours import PALETTES, colors
from swarmtop.text.ascii_text import CELLS

COLORS: Final = colors(PALETTES["dark"])

# Without colour, weight alone distinguishes; glyphs and words carry the rest.
PLAIN: Final[Mapping[str, Style]] = {
    role: Style(
        bold=style.bold,
        italic=style.italic,
        underline=style.underline,
        dim=role in ("dim", "faded", "frame"),
        reverse=role in ("live", "paused", "replay", "file", "cell", "silent"),
    )
    for role, style in COLORS.items()
}

_ASCII: Final = str.maketrans(dict(CELLS))


_PLAIN_AGAIN: Final = Style(bold=True)  # what is reversed, within what is reversed


def to_ascii(text: str) -> str:
    """Return the same text drawn with ASCII, cell for cell."""
    if text.isascii():
        return text
    drawn = text.translate(_ASCII)
    if drawn.isascii():
        return drawn
    return "".join(c if c.isascii() else _stand_in(c) for c in drawn)


def _stand_in(character: str) -> str:
    from rich.cells import cell_len

    if 0x2800 <= ord(character) <= 0x28FF:
        return "*" if character != "\u2800" else " "
    return "?" * cell_len(character)


class Ink:
    """The way lines are drawn in this terminal."""

    def __init__(self, *, color: bool = True, ascii_only: bool = False, theme: str = "dark") -> None:
        self._styles: Mapping[str, Style] = PLAIN
        self.plain = not color
        self.theme = theme
        if color:
            self.use(theme)
        self.ascii_only = ascii_only

    def use(self, theme: str) -> None:
        """Use these colours from now on; without colour nothing changes."""
        self.theme = theme
        if not self.plain:
            self._styles = colors(PALETTES[theme])

    def strip(self, spans: Line, width: int, over: str = "") -> Strip:
        """Return exactly `width` cells; `over` is a role applied to the whole line (the cursor)."""
        above = self._over(over)
        segments = []
        for text, role in fit(tuple((clean(text, 1000), role) for text, role in spans), width):
            style = self._styles[role]
            if above:
                # a badge or a chosen cell keeps its background; without colour it shows as not reversed
                style = style if style.bgcolor else _PLAIN_AGAIN if style.reverse else style + above
            segments.append(Segment(to_ascii(text) if self.ascii_only else text, style))
        return Strip(segments, width)

    def _over(self, role: str) -> Style | None:
        if not role:
            return None
        return self._styles[role] if not self.plain else Style(reverse=True)
