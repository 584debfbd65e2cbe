"""Read real round-trip times between cities from the bundled matrix (data/NOTICE.md)."""

from __future__ import annotations

import csv
from importlib import resources


def round_trips_ms(matrix: str) -> dict[tuple[str, str], float]:
    """Return (from, to) → median round trip in ms; empty for the matrix "none". Missing pairs are left out."""
    if matrix == "none":
        return {}
    text = resources.files("swarm_lab").joinpath("data", f"{matrix}_rtt_ms.csv").read_text()
    header, *rows = csv.reader(text.splitlines())
    return {(row[0], to): float(cell) for row in rows for to, cell in zip(header[1:], row[1:], strict=True) if cell}
