"""Count the pairs whose standard deviation is above half of the mean round trip (rtt-spread.csv)."""

from __future__ import annotations

import csv
import json
from pathlib import Path

HALF = 0.5


def main() -> None:
    text = (Path(__file__).parent / "rtt-spread.csv").read_text()
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    found = {}
    for kind in ("devices", "servers"):
        above = sum(int(row[kind]) for row in rows if float(row["from"]) >= HALF)
        found[f"percent_of_{kind}"] = 100 * above / sum(int(row[kind]) for row in rows)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
