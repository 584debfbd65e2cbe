"""The colours of each theme: a palette of a few inks, and what every role of a text is drawn in.

Okabe and Ito's inks, lighter or darker as the ground wants: told apart with any colour vision, and every state has a
glyph and a word besides. Shades of the matrix are viridis, whose steps look even to everyone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rich.style import Style


@dataclass(frozen=True, slots=True)
class Palette:
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
    paused: str  # behind the header while the screen is held still, and in the past
    replay: str
    alarm: str  # behind the header while the collector is not heard
    on_badge: str  # text on LIVE, PAUSED, REPLAY
    heat: tuple[str, str, str, str, str]  # best to worst
    nothing: str  # no data, as half a cell


_VIRIDIS: Final = ("#6a55b8", "#4685c4", "#1fa187", "#9fda3a", "#fde725")  # its dark end lighter, to be seen

PALETTES: Final[Mapping[str, Palette]] = {
    "dark": Palette(
        ground="#0f1318", text="#d5dbe3", green="#2fbf8f", orange="#e69f00", red="#f0723a", blue="#5a9bd8",
        sky="#7cc4f0", yellow="#f0e442", pink="#d58ab5", violet="#b0a0d8", soft="#9aa4b2", dim="#7d8796",
        frame="#4a5361", cursor="#26303d", paused="#3a2c0c", replay="#11304a", alarm="#4a1710",
        on_badge="#08130e", heat=_VIRIDIS, nothing="#3a424e",
    ),
    "light": Palette(
        ground="#fbfbf8", text="#1c222a", green="#00734f", orange="#8f5a00", red="#b03a00", blue="#1c5fa6",
        sky="#0a66a0", yellow="#6f6300", pink="#9a3f72", violet="#6247a8", soft="#4a5462", dim="#626c7a",
        frame="#b4bcc7", cursor="#d9e6f3", paused="#f8e3b8", replay="#cfe6f8", alarm="#f6cfc4", on_badge="#ffffff",
        heat=("#fde725", "#7ad151", "#22a884", "#2a788e", "#440154"), nothing="#d3d7dd",
    ),
    "contrast": Palette(
        ground="#000000", text="#ffffff", green="#3ddca6", orange="#ffb52e", red="#ff8552", blue="#7cb8f5",
        sky="#9bd8ff", yellow="#fff35c", pink="#f2a8d2", violet="#cfc2f5", soft="#e2e7ee", dim="#b9c2ce",
        frame="#8a94a3", cursor="#303c4c", paused="#5a4200", replay="#003e60", alarm="#6b1b08",
        on_badge="#000000", heat=_VIRIDIS, nothing="#4a5462",
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
        "file": Style(bold=True, color=p.on_badge, bgcolor=p.soft),
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
        "cursor": Style(bgcolor=p.cursor),
        "bar paused": Style(bgcolor=p.paused),
        "bar replay": Style(bgcolor=p.replay),
        "cursor-mark": Style(bold=True, color=p.sky),
        "cell": Style(reverse=True, bold=True),
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
