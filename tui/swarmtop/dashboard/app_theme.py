"""What Textual and its pictures must know of our colours: the ground behind everything, and whether there are any."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from textual.theme import Theme

from swarmtop.dashboard.widgets.palettes import PALETTES

SVG_GROUND: Final = "#292929"  # as rich draws a terminal
SVG_TEXT: Final = "#c5c8c6"


def theme_name(name: str) -> str:
    return f"swarmtop-{name}"


def themes() -> list[Theme]:
    return [
        Theme(
            name=theme_name(name), primary=p.blue, background=p.ground, surface=p.ground, panel=p.ground,
            foreground=p.text, dark=name != "light",
        )
        for name, p in PALETTES.items()
    ]  # fmt: skip


def on_ground(svg: str, theme: str) -> str:
    """A picture of the screen on the ground of its theme: that of the terminal is not known."""
    palette = PALETTES[theme]
    return svg.replace(SVG_GROUND, palette.ground).replace(SVG_TEXT, palette.text)


@contextlib.contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Sets (or with None removes) variables while Textual reads them."""
    before = {name: os.environ.get(name) for name in values}
    _put(values)
    try:
        yield
    finally:
        _put(before)


def _put(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
