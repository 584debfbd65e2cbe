"""Define the colours of each theme: a palette of a few inks, and the style of every role.

Okabe and Ito's inks, lighter or darker to suit the background: they can be distinguished with any colour vision, and
every state has a glyph and a word besides. Shades of the matrix are viridis, whose steps look even to everyone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from rich.style import Style


class Palette(msgspec.Struct, frozen=True):
    ground: str
    text: str
    green: str
    orange: str
    red: str
    blue: str
    sky: str
    yellow: str
    pink: str
    violet: str
    soft: str  # headings
    dim: str
    frame: str
    cursor: str  # behind the chosen line
    paused: str  # behind the header while the screen is paused, and in the past
    replay: str
    alarm: str  # behind the header while the collector does not answer
    on_badge: str  # text on LIVE, PAUSED, REPLAY
    heat: tuple[str, str, str, str, str]  # best to worst
    nothing: str  # no data, as half a cell


ANSI: Final = "ansi"  # the theme of the terminal's own sixteen colours
_VIRIDIS: Final = ("#6a55b8", "#4685c4", "#1fa187", "#9fda3a", "#fde725")  # its dark end lighter, to be visible

PALETTES: Final[Mapping[str, Palette]] = {
    "dark": Palette(
        ground="#0f1318", text="#d5dbe3", green="#2fbf8f", orange="#f0a81c", red="#ff8a57", blue="#68a8e6",
        sky="#7cc4f0", yellow="#f0e442", pink="#e19cc4", violet="#b9abe0", soft="#a4aebd", dim="#949eac",
        frame="#5a6474", cursor="#222b36", paused="#2e230a", replay="#10283d", alarm="#3d140d",
        on_badge="#08130e", heat=_VIRIDIS, nothing="#3a424e",
    ),
    "light": Palette(
        ground="#fbfbf8", text="#1c222a", green="#006b49", orange="#8a5000", red="#a83200", blue="#1c5fa6",
        sky="#085c92", yellow="#665b00", pink="#93386b", violet="#6247a8", soft="#4a5462", dim="#566070",
        frame="#868e9a", cursor="#e4edf6", paused="#fbf0d6", replay="#e6f2fb", alarm="#fce8e1", on_badge="#ffffff",
        heat=("#7e9a00", "#3a8a4e", "#1f747c", "#2b5583", "#440154"), nothing="#d3d7dd",
    ),
    "contrast": Palette(
        ground="#000000", text="#ffffff", green="#3ddca6", orange="#ffb52e", red="#ff8f60", blue="#7cb8f5",
        sky="#9bd8ff", yellow="#fff35c", pink="#f2a8d2", violet="#cfc2f5", soft="#e2e7ee", dim="#b9c2ce",
        frame="#8a94a3", cursor="#303c4c", paused="#3d2c00", replay="#00304a", alarm="#561606",
        on_badge="#000000", heat=_VIRIDIS, nothing="#4a5462",
    ),
    ANSI: Palette(
        ground="default", text="default", green="green", orange="yellow", red="bright_red", blue="blue",
        sky="cyan", yellow="bright_yellow", pink="bright_magenta", violet="magenta", soft="default", dim="bright_black",
        frame="bright_black", cursor="cyan", paused="default", replay="default", alarm="red",
        on_badge="black", heat=("blue", "cyan", "green", "yellow", "bright_red"), nothing="bright_black",
    ),
}  # fmt: skip


def colors(p: Palette) -> Mapping[str, Style]:
    """The style of every role."""
    # what half a cell can be: a shade, no data, nothing, the cursor
    half = {**{str(i): color for i, color in enumerate(p.heat)}, "q": p.nothing, "n": p.ground, "c": p.text}
    return {
        "": Style(),
        "brand": Style(bold=True),
        "strong": Style(bold=True),
        "name": Style(),
        "title": Style(bold=True),
        "head": Style(bold=True, color=p.soft),
        "head sorted": Style(bold=True, color=p.sky),
        "frame": Style(color=p.frame),
        "dim": Style(color=p.dim),
        "faded": Style(color=p.dim, italic=True),
        "bound": Style(color=p.sky),
        "estimate": Style(color=p.violet, italic=True),
        "key": Style(bold=True, color=p.sky),
        "tab": Style(color=p.soft),
        "tab-on": Style(bold=True, underline=True),
        "header": Style(),
        "live": Style(bold=True, color=p.on_badge, bgcolor=p.green),
        "paused": Style(bold=True, color=p.on_badge, bgcolor=p.orange),
        "replay": Style(bold=True, color=p.on_badge, bgcolor=p.sky),
        "qr": Style(color="#000000", bgcolor="#ffffff"),
        "silent": Style(bold=True, color=p.on_badge, bgcolor=p.red),
        "bar silent": Style(bgcolor=p.alarm),
        "file": Style(bold=True, color=p.on_badge, bgcolor="white" if p.soft == "default" else p.soft),
        "ok": Style(color=p.green),
        "slow": Style(color=p.orange, bold=True),
        "degraded": Style(color=p.pink, bold=True),
        "stale": Style(color=p.yellow),
        "lost": Style(color=p.red, bold=True),
        "left": Style(color=p.dim),
        "unknown": Style(color=p.soft),
        "warn": Style(color=p.orange),
        "error": Style(color=p.red, bold=True),
        "spark": Style(color=p.blue),
        "chart": Style(color=p.sky),
        "band": Style(color=p.blue),
        "figure": Style(color=p.sky, bold=True),
        "track": Style(color=p.frame),
        "land": Style(color=p.frame),
        "band-edge": Style(color=p.soft),
        "gauge": Style(color=p.green),
        "cell-bar": Style(color=p.blue),
        "layers-a": Style(color=p.blue),
        "layers-b": Style(color=p.violet),
        # none of the sixteen colours can be read on all others
        "cursor": Style(color=None if p.cursor.startswith("#") else p.on_badge, bgcolor=p.cursor),
        "bar paused": Style(bgcolor=p.paused),
        "bar replay": Style(bgcolor=p.replay),
        "cursor-mark": Style(bold=True, color=p.sky),
        "cell": Style(reverse=True, bold=True),
        "way-frame": Style(color=p.blue),
        "way-path": Style(color=p.soft),
        "compute": Style(color=p.blue),
        "network": Style(color=p.orange),
        "overhead": Style(color=p.pink),
        "head-time": Style(color=p.green),
        "heat0": Style(color=p.heat[0]),
        "heat1": Style(color=p.heat[1]),
        "heat2": Style(color=p.heat[2]),
        "heat3": Style(color=p.heat[3]),
        "heat4": Style(color=p.heat[4]),
        "heat?": Style(color=p.dim),
        "half-none": Style(color=half["q"]),
        **{f"half-{a}{b}": Style(color=half[a], bgcolor=half[b]) for a in half for b in half},
    }
