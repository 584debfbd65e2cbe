"""Draw figures as SVG text: a heat map, lines over time, a bar. Numbers in, markup out; names are escaped here.

Shades are viridis, distinguishable with any colour vision; cells show their figure where there is room, and always in a
title for the pointer. A gap is a gap: lines break if nothing was measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.text import safe
from swarmtop.sources.source import History
from swarmtop.text import quantities

HEAT: Final = ("#fde725", "#7ad151", "#22a884", "#2a788e", "#440154")  # best to worst on white
ON_HEAT: Final = ("#1c222a", "#1c222a", "#ffffff", "#ffffff", "#ffffff")
INKS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito
DASHES: Final = ("", "6 3", "2 2", "8 2 2 2", "1 3", "10 4")  # so that ink alone tells nothing apart
PARTS: Final = (("compute", "#0072b2"), ("network", "#e69f00"), ("overhead", "#cc79a7"), ("head", "#009e73"))
MAP_PX: Final = 620
MIN_SCALE: Final = 1e-9  # of any figure here: below is nothing, and no scale
FIGURES_UP_TO: Final = 22  # nodes; above, cells are too small for text
LINES_W: Final = 680
LINES_H: Final = 170


def heat_map(names: Sequence[str], values: Floats, estimated: Sequence[Sequence[bool]], limits: Sequence[float]) -> str:
    """Draw `values[i, j]` from row i to column j; NaN has no cell. `limits`: four, between the five shades."""
    n = len(names)
    cell = max(3.0, min(46.0, MAP_PX / max(n, 1)))
    label = 9 * min(14, max((len(name) for name in names), default=1)) if n <= 60 else 0
    size = label + n * cell
    out = [_svg(size + 8, size + 8, "heat map of round trips")]
    figures = n <= FIGURES_UP_TO
    for i, source in enumerate(names):
        if label:
            y = label + (i + 0.5) * cell
            out.append(f'<text x="{label - 6:.1f}" y="{y + 4:.1f}" class="r">{_text(source, 14)}</text>')
            x = label + (i + 0.5) * cell
            out.append(
                f'<text transform="translate({x + 4:.1f} {label - 6:.1f}) rotate(-90)">{_text(source, 14)}</text>'
            )
        for j, target in enumerate(names):
            value = float(values[i, j])
            if i == j or not math.isfinite(value):
                continue
            shade = sum(value > limit for limit in limits)
            x, y = label + j * cell, label + i * cell
            guess = "~" if estimated[i][j] else ""
            title = f"{_text(source)} to {_text(target)}: {guess}{quantities.figure(value)} ms"
            out.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" fill="{HEAT[shade]}">'
                f"<title>{title}</title></rect>"
            )
            if figures:
                out.append(
                    f'<text x="{x + cell / 2:.1f}" y="{y + cell / 2 + 4:.1f}" class="m" fill="{ON_HEAT[shade]}">'
                    f"{guess}{value:.0f}</text>"
                )
    return "".join(out) + "</svg>"


def legend(limits: Sequence[float], unit: str) -> list[tuple[str, str]]:
    """Return (colour, meaning)."""
    edges = [*(f"{limit:g}" for limit in limits)]
    words = [f"up to {edges[0]}", *(f"{a} to {b}" for a, b in itertools.pairwise(edges)), f"over {edges[-1]}"]
    empty = {i for i in range(1, len(edges)) if edges[i] == edges[i - 1]}  # many links of one figure
    return [
        (colour, f"{word} {unit}") for i, (colour, word) in enumerate(zip(HEAT, words, strict=True)) if i not in empty
    ]


def lines(title: str, unit: str, series: Sequence[tuple[str, History]]) -> str:
    """Draw one line for each node over equal slots; the scale begins at zero."""
    values = [v for _, history in series for v in history.values if v is not None]
    top = _nice(max(values, default=1.0))
    left, bottom = 52, 24
    width, height = LINES_W - left - 8, LINES_H - bottom - 8
    out = [_svg(LINES_W, LINES_H, title)]
    for share in (0.0, 0.5, 1.0):
        y = 8 + height * (1 - share)
        out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" class="grid"/>')
        out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" class="r">{quantities.figure(top * share)}</text>')
    moments = [at for _, history in series for at in history.at_ns]
    first, last = min(moments), max(moments)
    for share, at in ((0.0, first), (1.0, last)):
        anchor = "" if share == 0 else ' class="r"'
        x = left + width * share
        out.append(f'<text x="{x:.1f}" y="{LINES_H - 6}"{anchor}>{quantities.moment(at)[5:16]}</text>')
    for number, (_, history) in enumerate(series):
        path = _path(history, first, last, top, left, width, height)
        ink, dashes = INKS[number % len(INKS)], DASHES[number % len(DASHES)]
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        out.append(f'<path d="{path}" class="series" stroke="{ink}"{dash}/>')
    return "".join(out) + f"<desc>{escape(title)}, {escape(unit)}</desc></svg>"


def keys(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (colour, dashes, name) of each line."""
    return [(INKS[i % len(INKS)], DASHES[i % len(DASHES)], safe(name, 40)) for i, name in enumerate(names)]


def bar(parts: Sequence[tuple[str, float]]) -> str:
    """Draw where the time of one token goes, as one divided bar."""
    inks = dict(PARTS)
    total = sum(value for _, value in parts if math.isfinite(value) and value > 0)
    out, x = [_svg(LINES_W, 30, "where the time of a token goes")], 0.0
    for name, value in parts:
        if not math.isfinite(value) or value <= 0 or total <= 0:
            continue
        width = LINES_W * value / total
        out.append(
            f'<rect x="{x:.1f}" y="2" width="{max(width - 1, 0.5):.1f}" height="26" fill="{inks[name]}">'
            f"<title>{name} {quantities.ms(value)}</title></rect>"
        )
        x += width
    return "".join(out) + "</svg>"


def _path(history: History, first: int, last: int, top: float, left: int, width: int, height: int) -> str:
    steps, pen_down = [], False
    for at, value in zip(history.at_ns, history.values, strict=True):
        if value is None:
            pen_down = False
            continue
        x = left + width * (at - first) / max(last - first, 1)
        y = 8 + height * (1 - min(value / top, 1.0))
        steps.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}" + ("" if pen_down else "h0.01"))
        pen_down = True
    return "".join(steps)


def _nice(value: float) -> float:
    """Return the next 1, 2 or 5 times a power of ten."""
    if value < MIN_SCALE or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    # rounding may put ten times the power a hair below the value
    return next((step * power for step in (1, 2, 5, 10) if step * power >= value), 20 * power)


def _svg(width: float, height: float, label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(label)}">'
    )


def _text(name: str, limit: int = 40) -> str:
    return escape(safe(name, limit))
