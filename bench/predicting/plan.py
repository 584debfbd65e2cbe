"""Measure planning: seconds and proven gap per swarm size, and how much slower other projects' placement rules are."""

from __future__ import annotations

import statistics
import sys
import time

from bench.support import placement_baselines as rules
from bench.support.harness import machine, record
from bench.support.synthetic.plan_instances import MODELS, swarm
from swarm_predict.search.solve import solve
from swarm_predict.types import PredictError

CASES = (
    (18, "70B fp16"),
    (18, "70B 4-bit"),
    (100, "70B fp16"),
    (100, "405B 4-bit"),
    (1000, "70B fp16"),
    (1000, "405B 4-bit"),
)
SEEDS = 5
SOON_S = 0.1
LIMIT_S = {18: 1.5, 100: 1.0, 1000: 3.0}


def main() -> int:
    print(machine())
    print("limits are CPU seconds: one thread, so those of the clock on an idle machine")
    print("100 ms: the plan of so little time, as a multiple of the final one")
    print("                               CPU s          gap             exact  100 ms  others' rules, × (median)")
    print("   nodes  model        client  median  worst  median   worst                   exo  petals  parallax")
    for nodes, name in CASES:
        for client in (False, True):
            print(_case(nodes, name, client), flush=True)
    return 0


def _case(nodes: int, name: str, client: bool) -> str:
    seconds, gaps, soon, exact = [], [], [], 0
    ratios: dict[str, list[float]] = {"exo": [], "petals": [], "parallax": []}
    for seed in range(SEEDS):
        tables = swarm(nodes, MODELS[name], seed, client=client)
        began = time.process_time()
        try:
            found = solve(tables, time_limit_s=LIMIT_S[nodes], clock=time.process_time)
        except PredictError as error:
            return f"   {nodes:5d}  {name:12s} {'given' if client else 'first':6s}  {error}"
        seconds.append(time.process_time() - began)
        gaps.append(found.gap)
        exact += found.exact
        soon.append(solve(tables, time_limit_s=SOON_S, clock=time.process_time).value_ms / found.value_ms)
        for rule, value in (
            ("exo", rules.exo(tables)),
            ("petals", rules.petals(tables, seed)),
            ("parallax", rules.parallax(tables)),
        ):
            if value is not None:
                ratios[rule].append(value / found.value_ms)
    what = f"{nodes} nodes, {name}, client {'given' if client else 'first'}"
    record(f"{what}: gap", 100 * statistics.median(gaps), "%")
    record(f"{what}: CPU", statistics.median(seconds), "s")
    slower = "  ".join(f"{statistics.median(r):5.2f}" if r else "  n/a" for r in ratios.values())
    return (
        f"   {nodes:5d}  {name:12s} {'given' if client else 'first':6s}  "
        f"{statistics.median(seconds):6.2f} {max(seconds):6.2f}  {statistics.median(gaps):6.1%}  {max(gaps):6.1%}  "
        f"{exact}/{SEEDS}  {statistics.median(soon):6.3f}  {slower}"
    )


if __name__ == "__main__":
    sys.exit(main())
