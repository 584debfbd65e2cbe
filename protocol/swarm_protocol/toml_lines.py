"""Find the line of a key in a TOML file. Parsers do not tell it once the file is read.

It reads headers and keys as people write them; what it cannot find (a key inside an inline table) has the line of the
table around it, or none.
"""

from __future__ import annotations

import re
from typing import Final

Steps = tuple[str | int, ...]  # ("node", 1, "up_mbps"): tables, places in arrays of tables, and a key

_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([\w.\"' -]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"\s*[\"']?([\w.-]+)[\"']?\s*=")


def line_of(steps: Steps, text: str) -> int | None:
    """Return the line from 1 of a table or key, or of what holds it; None: it is not found."""
    lines: dict[Steps, int] = {}
    counts: dict[Steps, int] = {}
    here: Steps = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            here = _entered(header[2].split("."), counts, many=header[1] == "[[")
            for k in range(1, len(here) + 1):
                lines.setdefault(here[:k], number)
        elif key := _KEY.match(line):
            lines.setdefault((*here, key[1]), number)
    while steps and steps not in lines:
        steps = steps[:-1]
    return lines.get(steps)


def _entered(names: list[str], counts: dict[Steps, int], *, many: bool) -> Steps:
    """Return the steps to the table of a header. `counts`: of each array of tables so far, the place of its last."""
    steps: Steps = ()
    for k, name in enumerate(names):
        steps = (*steps, name.strip().strip("\"'"))
        if many and k == len(names) - 1:
            counts[steps] = counts.get(steps, -1) + 1
        if steps in counts:
            steps = (*steps, counts[steps])
    return steps
