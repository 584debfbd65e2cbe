"""Describe the best placement for each number of machines that share layers."""

from __future__ import annotations

import itertools

from swarm_predict.types import Plan
from swarmtop.text import quantities


def machines_object(found: Plan) -> dict[str, object]:
    if not found.by_machines:
        return {"by_machines": None}
    return {"by_machines": [{"machines": count, "tokens_per_s": speed} for count, speed in found.by_machines]}


def machines_line(found: Plan) -> str:
    """`by machines: 1 0.76, 2 1.26, 4 2.02, 8 1.70 tok/s; 8 are slower than 4`"""
    if len(found.by_machines) < 2:
        return ""
    speeds = ", ".join(f"{count} {quantities.figure(speed)}" for count, speed in found.by_machines)
    slower = [
        f"{more} are slower than {fewer}"
        for (fewer, before), (more, after) in itertools.pairwise(found.by_machines)
        if after < before
    ]
    return f"by machines: {speeds} tok/s" + "".join(f"; {each}" for each in slower)
