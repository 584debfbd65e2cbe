"""Locate machines by their region or city, and choose the part of the map that shows them."""

from __future__ import annotations

import base64
import functools
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmtop.dashboard.lines.drawings.dots import Dots

NORTH: Final = 84  # of the bitmap, degrees
SOUTH: Final = -56
MIN_SPAN: Final = 50.0  # degrees of longitude: a map of a single city would show no coast
MARGIN: Final = 0.12  # share of the span, around the machines
_DATA: Final = resources.files("swarmtop.dashboard.lines.drawings").joinpath("data")

Point = tuple[float, float]  # latitude, longitude


@functools.cache
def land() -> npt.NDArray[np.bool_]:
    """Return the bitmap of land, (140, 360): one cell a degree, from 84° N and 180° W."""
    packed = zlib.decompress(base64.b85decode(_DATA.joinpath("land.b85").read_text("ascii").strip()))
    bits = np.unpackbits(np.frombuffer(packed, np.uint8))
    return bits[: (NORTH - SOUTH) * 360].reshape(NORTH - SOUTH, 360).astype(bool)


@functools.cache
def _places() -> dict[str, Point]:
    found = {}
    for file in ("regions.csv", "cities.csv"):  # a city takes precedence over a region of its name
        for row in _DATA.joinpath(file).read_text("utf-8").splitlines():
            name, lat, lon = row.rsplit(",", 2)
            found[_key(name)] = float(lat), float(lon)
    return found


def _key(name: str) -> str:
    return re.sub(r"[\s_]+", " ", name.strip().casefold())


def place_of(region: str) -> Point | None:
    """Return the place of a city or a region, such as `Utrecht`, `Utrecht, NL`, `eu-west-1b` or `us-e`; None:
    unknown."""
    if not region.strip():
        return None
    known = _places()
    tries = (region, region.split(",")[0], re.sub(r"(?<=\d)[a-z]$", "", region.strip().casefold()))
    return next((known[key] for key in map(_key, tries) if key in known), None)


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of the earth that is drawn, and its scale."""

    west: float
    north: float
    per_dot: float  # degrees

    def dot(self, at: Point) -> tuple[float, float]:
        return (at[1] - self.west) % 360.0 / self.per_dot, (self.north - at[0]) / self.per_dot


def frame_of(points: Sequence[Point], width: int, rows: int) -> Frame:
    """Return the smallest part that shows every point with some room around, across the date line if that is
    shorter."""
    lons = sorted({lon % 360.0 for _, lon in points}) or [0.0]  # machines in one city are one place
    gaps = [(lons[(i + 1) % len(lons)] - lon) % 360.0 or 360.0 for i, lon in enumerate(lons)]
    widest = int(np.argmax(gaps))
    west, span = lons[(widest + 1) % len(lons)], 360.0 - gaps[widest]
    lats = [lat for lat, _ in points] or [0.0]
    tall = max(lats) - min(lats)
    across = min(360.0, max(span * (1 + 2 * MARGIN), MIN_SPAN, tall * (1 + 2 * MARGIN) * width / (2 * rows)))
    per_dot = across / (2 * width)
    per_dot = min(per_dot, 360.0 / (2 * width)) if across >= 360.0 else per_dot
    height = 4 * rows * per_dot
    middle = (max(lats) + min(lats)) / 2
    north = min(float(NORTH), max(middle + height / 2, SOUTH + height))
    return Frame((west + span / 2 - across / 2) % 360.0, north, per_dot)


def draw_land(dots: Dots, frame: Frame, role: str = "land") -> None:
    bitmap = land()
    for y in range(4 * dots.rows):
        row = int(NORTH - (frame.north - (y + 0.5) * frame.per_dot))
        if not 0 <= row < len(bitmap):
            continue
        for x in range(2 * dots.width):
            lon = frame.west + (x + 0.5) * frame.per_dot
            if bitmap[row, int(lon + 180.0) % 360] and (x + y) % 2 == 0:
                dots.dot(x, y, role)
