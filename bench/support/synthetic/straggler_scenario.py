"""Provide the lab's `one-straggler` with a chosen start and end of the detour."""

from __future__ import annotations

import re
from typing import Final

from swarm_lab.bundled_scenarios import bundled_text

STRAGGLER: Final = "limper"  # the host whose path takes the detour


def straggler_text(turned_s: float, healed_s: float) -> str:
    """Return the scenario. `turned_s`, `healed_s`: seconds from its start."""
    times = iter((turned_s, healed_s))
    return re.sub(r"(?m)^at_s = .*$", lambda _: f"at_s = {float(next(times))}", bundled_text("one-straggler"))
