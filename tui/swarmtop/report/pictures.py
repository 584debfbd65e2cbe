"""Draw a swarm as SVG for the report: the token route, and machines on the map. Names are escaped here.

Numbers and places come from the same modules as the dashboard's drawings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

import numpy as np

from swarm_predict.types import Prediction
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.text import safe
from swarmtop.dashboard.lines.drawings import world
from swarmtop.dashboard.lines.drawings.route_lines import route
from swarmtop.dashboard.lines.drawings.token_route import Part, folded, widths
from swarmtop.text import quantities

WIDTH: Final = 1000  # pixels of the drawing; it shrinks with the page
SLOW: Final = "#a04600"
MACHINE: Final = "#0072b2"
PATH: Final = "#55606e"
MAX_PARTS: Final = 15
MIN_MACHINE: Final = 86  # pixels that a name and a figure need
MIN_PATH: Final = 58


def routes(shown: Sequence[tuple[str, Prediction]]) -> str:
    """One below the other on one scale: what is shorter is faster. Boxes are machines, arrows paths, by their time."""
    drawn = [(name, found, route(found)) for name, found in shown]
    longest = max((each.total_ms for _, _, each in drawn), default=0.0)
    if longest <= 0:
        return ""
    out = [f'<svg viewBox="0 0 {WIDTH} {len(drawn) * 104}" role="img" aria-label="token route">']
    for number, (name, found, each) in enumerate(drawn):
        top = number * 104 + 16
        title = f"{safe(name, 40)}: {quantities.rate(found.tokens_per_s.p50)}, {quantities.ms(each.total_ms)} a token"
        out.append(f'<text x="0" y="{top}" style="font-weight:600;font-size:13px">{escape(title)}</text>')
        parts = folded(each.parts, MAX_PARTS)
        least = [_least(part) for part in parts]
        room = max(round(WIDTH * each.total_ms / longest), sum(least))
        cells = widths([part.ms for part in parts], least, room) or least
        squeeze = min(1.0, WIDTH / sum(cells))
        x = 0.0
        for part, cell in zip(parts, cells, strict=True):
            out.append(_part(part, x, top + 12, cell * squeeze))
            x += cell * squeeze
    return "".join(out) + "</svg>"


def _least(part: Part) -> int:
    return MIN_MACHINE if part.kind == "machine" else MIN_PATH


def _part(part: Part, x: float, y: float, width: float) -> str:
    ink = SLOW if part.slowest else MACHINE if part.kind == "machine" else PATH
    figure = quantities.ms(part.ms)
    if part.kind == "rest":
        return f'<text x="{x + 8:.1f}" y="{y + 30}">{figure}<title>software and head</title></text>'
    if part.kind == "path":
        ends = f"{safe(part.origin, 40)} → {safe(part.name, 40)}{' via the client' if part.by_client else ''}"
        return (
            f"<g><title>{escape(ends)}: {figure}</title>"
            f'<line x1="{x + 2:.1f}" y1="{y + 27}" x2="{x + width - 8:.1f}" y2="{y + 27}" stroke="{ink}" '
            f'stroke-width="{4 if part.slowest else 1.6}"/>'
            f'<path d="M{x + width - 10:.1f} {y + 21} l8 6 l-8 6z" fill="{ink}"/>'
            f'<text class="m" x="{x + width / 2:.1f}" y="{y + 18}" style="fill:{ink}">{figure}</text></g>'
        )
    room = max(4, int(width / 7.2) - 1)
    called = safe(part.name, 200)
    name = called if len(called) <= room else called[: room - 1] + "…"
    return (
        f"<g><title>{escape(called)}, layers {escape(part.layers)}: {figure}</title>"
        f'<rect x="{x + 1:.1f}" y="{y}" width="{max(2.0, width - 2):.1f}" height="54" rx="5" fill="{ink}" '
        f'fill-opacity="0.1" stroke="{ink}" stroke-width="{2 if part.slowest else 1}"/>'
        f'<text x="{x + 8:.1f}" y="{y + 17}" style="font-weight:600;fill:#1c222a">{escape(name)}</text>'
        f'<text x="{x + 8:.1f}" y="{y + 32}" style="fill:{ink}">{figure}</text>'
        f'<text x="{x + 8:.1f}" y="{y + 47}">layers {escape(part.layers)}</text></g>'
    )


MAP_W: Final = 120  # dots of land
MAP_H: Final = 56
DOT: Final = 8.0  # pixels
LABEL_H: Final = 13.0
LABEL_W: Final = 110.0


def world_map(swarm: Swarm, found: Prediction | None) -> str:
    """Return the machines at the places they report, and the token's path between them; empty if none reports one."""
    places = [world.place_of(facts.region) for facts in swarm.facts]
    known = {facts.name: at for facts, at in zip(swarm.facts, places, strict=True) if at is not None}
    if not known:
        return ""
    frame = world.frame_of(list(known.values()), MAP_W // 2, MAP_H // 4)
    land = world.land()
    size = f"0 0 {MAP_W * DOT:g} {MAP_H * DOT:g}"
    out = [f'<svg viewBox="{size}" role="img" aria-label="map of the machines"><g fill="#d3d9e0">']
    for y in range(MAP_H):
        row = int(world.NORTH - (frame.north - (y + 0.5) * frame.per_dot))
        if 0 <= row < len(land):
            lon = (frame.west + (np.arange(MAP_W) + 0.5) * frame.per_dot + 180.0) % 360
            for x in np.flatnonzero(land[row, lon.astype(int)]).tolist():
                out.append(f'<circle cx="{(x + 0.5) * DOT:g}" cy="{(y + 0.5) * DOT:g}" r="2.6"/>')
    out.append("</g>")
    dots = {name: frame.dot(place) for name, place in known.items()}
    at = {name: (DOT * x_dots, DOT * y_dots) for name, (x_dots, y_dots) in dots.items()}
    for part in route(found).parts if found is not None else ():
        if part.kind == "path" and part.origin in at and part.name in at:
            (x1, y1), (x2, y2) = at[part.origin], at[part.name]
            ink, wide = (SLOW, 3.5) if part.slowest else (MACHINE, 2)
            ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
            out.append(f'<line {ends} stroke="{ink}" stroke-width="{wide}"/>')
    taken: list[tuple[float, float]] = []
    for name, (dot_x, dot_y) in at.items():
        label_x, below = dot_x, dot_y
        while any(abs(label_x - a) < LABEL_W and abs(below - b) < LABEL_H for a, b in taken):
            below += LABEL_H
        taken.append((label_x, below))
        style = 'style="font-weight:600;fill:#1c222a;paint-order:stroke;stroke:#fff;stroke-width:3px"'  # above lines
        out.append(f'<circle cx="{dot_x:.1f}" cy="{dot_y:.1f}" r="5" fill="{MACHINE}" stroke="#fff"/>')
        out.append(f'<text x="{label_x + 9:.1f}" y="{below + 4:.1f}" {style}>{escape(safe(name, 24))}</text>')
    return "".join(out) + "</svg>"
