"""Measure how soon an injected straggler is ranked first, with the right cause: real probes in the lab.

`python -m bench straggler` (5 minutes) plays the lab's `one-straggler` with two quiet minutes before the detour. The
peer is the truth: the moment at which the lab changed the path. Goal: first, for "rtt", within 30 s; before that no
other than the usual first, and no other plan. Looks are replayed from what the collector stored.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.support import harness
from bench.support.synthetic.straggler_scenario import STRAGGLER, straggler_text
from swarm_lab.emulation import netns
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.units import NS_PER_S
from swarm_storage.history.replay import swarm_at
from swarm_storage.store import open_store
from swarmtop.analysis.analysis import Analysis, analyse

QUIET_S, TURNED_S, AFTER_S = 120, 60, 30
QUIET_LOOKED_S = 45  # of the quiet part, its end: before, figures are still coming
GOAL_S = 30.0
CAUSE = "rtt"
PLAYED_S = 600


@dataclass(frozen=True, slots=True)
class Look:
    at_ns: int
    first: str
    cause: str | None
    cost_ms: float | None
    plan: tuple[str, ...]


def main(_: list[str] | None = None) -> int:
    if why := netns.why_unavailable():
        print(f"skipped: {why}")
        return 0
    print(f"  {harness.machine()}")
    with TemporaryDirectory() as name:
        turned_ns = _played(Path(name))
        looks = _looks(Path(name) / "run", turned_ns)
    quiet = [look for look in looks if turned_ns - QUIET_LOOKED_S * NS_PER_S <= look.at_ns < turned_ns]
    after = [look for look in looks if turned_ns <= look.at_ns < turned_ns + TURNED_S * NS_PER_S]
    found = next((look for look in after if (look.first, look.cause) == (STRAGGLER, CAUSE)), None)
    print(f"  quiet: {len({look.first for look in quiet})} nodes were first in {len(quiet)} looks, "
          f"{len({look.plan for look in quiet})} plans")  # fmt: skip
    if found is None:
        print(f"  {STRAGGLER} was never first for {CAUSE}; at the end {after[-1].first} for {after[-1].cause}")
        return 1
    took_s = (found.at_ns - turned_ns) / NS_PER_S
    harness.record("the straggler is first after", took_s, "s")
    held = sum(look.first == STRAGGLER for look in after if look.at_ns >= found.at_ns)
    of = sum(look.at_ns >= found.at_ns for look in after)
    print(f"  {STRAGGLER} first for {CAUSE} after {took_s:.1f} s (goal {GOAL_S:g}), costing {found.cost_ms:.0f} ms; "
          f"first in {held} of the {of} looks from then on")  # fmt: skip
    return 0 if took_s <= GOAL_S and len({look.plan for look in quiet}) == 1 else 1


def _played(folder: Path) -> int:
    """Return the wall clock when the path was changed, in ns."""
    (folder / "straggler.toml").write_text(straggler_text(QUIET_S, QUIET_S + TURNED_S))
    seconds = QUIET_S + TURNED_S + AFTER_S
    command = [sys.executable, "-m", "swarmtop", "lab", "verify", str(folder / "straggler.toml"), "--seconds",
               str(seconds), "--json", "--keep", str(folder / "run")]  # fmt: skip
    turned_ns = 0
    lab = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert lab.stderr is not None
        for line in lab.stderr:
            if "takes a detour" in line and not turned_ns:
                turned_ns = time.time_ns()
        lab.wait(PLAYED_S)
    finally:
        if lab.poll() is None:
            lab.terminate()
            lab.wait()
    if not turned_ns:
        raise harness.BenchError("the lab did not come to the detour")
    return turned_ns


def _looks(run: Path, turned_ns: int) -> list[Look]:
    model, load = model_named("tiny"), Workload(weights="fp32", context=128)
    found: list[Look] = []
    before: Analysis | None = None
    with contextlib.closing(open_store(str(run / "swarm.db"), read_only=True)) as store:
        for second in range(-QUIET_S + 20, TURNED_S):
            at_ns = turned_ns + second * NS_PER_S
            before = analyse(swarm_at(store.reader, at_ns), model, load, before)
            if before.plan is not None:
                first = before.rows[0]
                plan = tuple(stage.node for stage in before.plan.prediction.placement)
                found.append(Look(at_ns, first.name, first.cause, first.cost_ms, plan))
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
