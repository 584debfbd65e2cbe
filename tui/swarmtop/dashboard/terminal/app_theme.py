"""Apply our colours to Textual and its pictures: the background, and whether colours are used at all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Final

from textual.theme import BUILTIN_THEMES, Theme

from swarmtop.dashboard.widgets.colours import ANSI, PALETTES

AUTO: Final = "auto"  # of the settings: the terminal's own
SVG_GROUND: Final = "#292929"  # as rich renders a terminal
SVG_TEXT: Final = "#c5c8c6"


def theme_name(name: str) -> str:
    return f"swarmtop-{name}"


def themes() -> list[Theme]:
    own = [
        Theme(
            name=theme_name(name), primary=p.blue, background=p.ground, surface=p.ground, panel=p.ground,
            foreground=p.text, dark=name != "light",
        )
        for name, p in PALETTES.items()
        if name != ANSI
    ]  # fmt: skip
    terminals = BUILTIN_THEMES.get("ansi-dark") or BUILTIN_THEMES["textual-ansi"]
    return [*own, dataclasses.replace(terminals, name=theme_name(ANSI))]


def chosen(theme: str, environment: Mapping[str, str]) -> str:
    """Return the theme for "auto": `ansi` on a terminal of sixteen colours, else dark."""
    if theme != AUTO:
        return theme
    deep = environment.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit")
    term = environment.get("TERM", "").lower()
    many = deep or any(word in term for word in ("256color", "direct", "kitty", "ghostty", "alacritty", "wezterm"))
    return "dark" if many or "TEXTUAL_DRIVER" in environment else ANSI


def on_ground(svg: str, theme: str) -> str:
    """Return a picture of the screen on the theme's background: the terminal's own is not known."""
    palette = PALETTES["dark" if theme == ANSI else theme]
    return svg.replace(SVG_GROUND, palette.ground).replace(SVG_TEXT, palette.text)


@contextlib.contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Set variables (None removes them) while Textual reads them."""
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
