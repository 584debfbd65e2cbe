"""Count the pairs whose round trip is between 10 and 500 ms (rtt-range.csv)."""

from __future__ import annotations

import csv
import json
from pathlib import Path

MIN_MS, MAX_MS = 10, 500


def main() -> None:
    text = (Path(__file__).parent / "rtt-range.csv").read_text()
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    found = {}
    for kind in ("devices", "servers", "planetlab"):
        within = sum(int(row[kind]) for row in rows if MIN_MS <= float(row["from"]) < MAX_MS)
        found[f"percent_of_{kind}"] = 100 * within / sum(int(row[kind]) for row in rows)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
