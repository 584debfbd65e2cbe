"""Make the round trips between cities: devices/data/cities.txt and rtt.u16.xz (sources and licences: NOTICE.md there).

    python tools/data_tables/city_matrix.py wonderproxy.csv lab/swarm_lab/data/azure_rtt_ms.csv

wonderproxy.csv is cmd/latencygen/latencies/wonderproxy.csv of github.com/relab/hotstuff. Cities that it lacks and that
are an Azure region come from the second file: to another Azure city its figure, to any other the shortest way through
one, which approximates the traffic of a city with an exchange nearby. Missing pairs are filled the same way.
"""

from __future__ import annotations

import csv
import lzma
import re
import sys
from array import array
from pathlib import Path

DATA = Path(__file__).parents[2] / "protocol/swarm_protocol/devices/data"
SPELLED = {
    "NewYork": "New York", "TheHague": "The Hague", "StLouis": "St Louis", "HoChiMinhCity": "Ho Chi Minh City",
    "DaresSalaam": "Dar es Salaam", "Mexico": "Mexico City", "Kiev": "Kyiv", "Malaysia": "Kuala Lumpur",
    "Panama": "Panama City",
}  # fmt: skip
UNCLEAR = {"Koto", "Ktis", "Westpoort", "Monticello", "Cromwell", "Toledo", "Salem", "Brunswick"}  # which of several?
AZURE_CITIES = {
    "West Europe": "Amsterdam", "Germany West Central": "Frankfurt", "UK South": "London", "France Central": "Paris",
    "Poland Central": "Warsaw", "Switzerland North": "Zurich", "Italy North": "Milan", "Norway East": "Oslo",
    "North Europe": "Dublin", "East US": "Washington", "Central India": "Pune", "Southeast Asia": "Singapore",
    "Japan East": "Tokyo", "UAE North": "Dubai", "South Africa North": "Johannesburg", "Brazil South": "Sao Paulo",
    "Australia East": "Sydney", "Korea Central": "Seoul", "West US 2": "Seattle", "South Central US": "San Antonio",
}  # fmt: skip
ADDED = {"Germany North": "Berlin", "France South": "Marseille", "Qatar Central": "Doha", "Korea South": "Busan"}


def spelled(name: str) -> str:
    return SPELLED.get(name) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


def square(path: str) -> tuple[list[str], dict[tuple[str, str], float]]:
    header, *rows = csv.reader(Path(path).read_text().splitlines())
    names = [name for name in header[1:] if name]
    cells = {
        (row[0], name): float(cell)
        for row in rows
        for name, cell in zip(names, row[1:], strict=False)
        if cell and float(cell) > 0
    }
    return names, cells


def main(wonder: str, azure: str) -> None:
    names, cells = square(wonder)
    cities = [spelled(name) for name in names if name not in UNCLEAR]
    rtt = {
        (spelled(a), spelled(b)): ms for (a, b), ms in cells.items() if a not in UNCLEAR and b not in UNCLEAR and a != b
    }
    _, backbone = square(azure)
    for region, city in ADDED.items():
        direct = {
            known: min(backbone.get((region, other), 1e9), backbone.get((other, region), 1e9))
            for other, known in AZURE_CITIES.items()
        }
        for other in cities:
            way = min(
                ms + (0.0 if hub == other else rtt[hub, other]) for hub, ms in direct.items() if (hub, other) in rtt
            ) if other not in direct else direct[other]  # fmt: skip
            rtt[city, other] = rtt[other, city] = way
        cities.append(city)
    values = array("H")
    for j, one in enumerate(cities):
        for other in cities[:j]:
            ms = rtt.get((one, other))
            if ms is None:
                ms = min(rtt[one, k] + rtt[k, other] for k in cities if (one, k) in rtt and (k, other) in rtt)
            values.append(round(ms * 10))
    if sys.byteorder == "big":
        values.byteswap()
    (DATA / "cities.txt").write_text("\n".join(cities) + "\n")
    (DATA / "rtt.u16.xz").write_bytes(lzma.compress(values.tobytes(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{len(cities)} cities, {len(values)} pairs")


if __name__ == "__main__":
    main(*sys.argv[1:])
