"""Colours by computation: contrast as WCAG 2.2 has it, and states told apart with any colour vision.

Contrast: 1.4.3 for text (4.5:1), 1.4.11 for graphics (3:1). Colour vision: Machado, Oliveira and Fernandes (2009), full
severity, distances in CIELAB.
"""

from __future__ import annotations

import itertools

import dash_fakes as fakes
import numpy as np
import numpy.typing as npt
import pytest

from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.terminal import app_theme
from swarmtop.dashboard.widgets.colours import ANSI, PALETTES, colors

TEXT = 4.5
GRAPHIC = 3.0
TOLD_APART = 12.0  # ΔE*ab; 2.3 is just noticeable side by side
# drawn, and not written; frames, tracks and land carry nothing that is not said by text beside them
GRAPHICS = {"spark", "chart", "band", "band-edge", "gauge", "cell-bar", "land", "track", "frame",
            *(f"heat{i}" for i in range(5))}  # fmt: skip
BARS = ("cursor", "paused", "replay", "alarm")  # grounds that text stands on as well
ON_BARS = ("", "dim", "faded", "warn", "slow", "degraded", "stale", "lost", "ok", "estimate", "bound", "key", "strong")
THEMES = [name for name in PALETTES if name != ANSI]
SEEN_AS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}

Color = npt.NDArray[np.float64]


def linear(color: str) -> Color:
    value = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    light = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) + 0.05 for color in (one, other))
    return light[1] / light[0]


def lab(rgb: Color) -> Color:
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def inks(theme: str, role: str) -> tuple[str, str]:
    """What the role is drawn in, and on which ground."""
    palette, style = PALETTES[theme], colors(PALETTES[theme])[role]
    ink = style.color.triplet.hex if style.color and style.color.triplet else palette.text
    ground = style.bgcolor.triplet.hex if style.bgcolor and style.bgcolor.triplet else palette.ground
    return ink, ground


def test_contrast_is_computed_as_wcag_does() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", THEMES)
def test_every_role_has_the_contrast_of_wcag(theme: str) -> None:
    for role in colors(PALETTES[theme]):
        if role.startswith(("half", "bar ")) or role == "cursor":  # two shades of the matrix, and grounds
            continue
        least = GRAPHIC if role in GRAPHICS else TEXT
        assert contrast(*inks(theme, role)) >= least, (role, *inks(theme, role))


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("bar", BARS)
def test_text_on_the_cursor_and_on_the_bar_of_the_header_can_be_read(theme: str, bar: str) -> None:
    for role in ON_BARS:
        assert contrast(inks(theme, role)[0], getattr(PALETTES[theme], bar)) >= TEXT, role


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("vision", SEEN_AS)
def test_what_matters_is_distinguished_with_any_colour_vision(theme: str, vision: str) -> None:
    """A slow part among the others, a good state beside a bad one; each state has its sign and word besides."""
    matrix = np.array(SEEN_AS[vision])
    seen = {
        role: lab(matrix @ linear(inks(theme, role)[0])) for role in ("ok", "slow", "lost", "way-frame", "way-path")
    }
    for one, other in (("ok", "slow"), ("ok", "lost"), ("way-frame", "slow"), ("way-path", "slow")):
        assert np.linalg.norm(seen[one] - seen[other]) >= TOLD_APART, (one, other)


@pytest.mark.parametrize("theme", THEMES)
def test_shades_of_the_matrix_get_steadily_lighter_or_darker(theme: str) -> None:
    light = [lab(linear(color))[0] for color in PALETTES[theme].heat]
    steps = [b - a for a, b in itertools.pairwise(light)]
    assert all(step > 4 for step in steps) or all(step < -4 for step in steps)


def test_sixteen_colours_are_the_terminals_own() -> None:
    assert set(colors(PALETTES[ANSI])) == set(colors(PALETTES["dark"]))
    for role, style in colors(PALETTES[ANSI]).items():
        if role == "qr":  # a camera needs black on white
            continue
        for color in (style.color, style.bgcolor):
            assert color is None or color.is_default or color.number in range(16), role


def test_terminal_of_sixteen_colours_gets_them_where_nobody_chose() -> None:
    assert app_theme.chosen("auto", {"TERM": "linux"}) == ANSI
    assert app_theme.chosen("auto", {"TERM": "xterm-256color"}) == "dark"
    assert app_theme.chosen("auto", {"TERM": "xterm", "COLORTERM": "truecolor"}) == "dark"
    assert app_theme.chosen("light", {"TERM": "linux"}) == "light"


async def test_nothing_but_sixteen_colours_reaches_such_a_terminal() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options(theme=ANSI))
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        assert all(color.number in range(16) for color in fakes.colours(app)), fakes.colours(app)
