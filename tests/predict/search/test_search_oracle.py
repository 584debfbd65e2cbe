"""The search against a solver that shares nothing with it: OR-tools' CP-SAT on swarms too large to enumerate.

CP-SAT knows the problem as a circuit through the client with optional nodes; times are whole microseconds there, so
the two answers may differ by the rounding of each arc.
"""

from __future__ import annotations

import numpy as np
import pytest
from planning import tables_of

from swarm_predict.cost.tables import CostTables
from swarm_predict.search.solve import solve

cp_model = pytest.importorskip("ortools.sat.python.cp_model", reason="ortools is not installed")

LIMIT_S = 60.0  # of CP-SAT, which takes a second or two


def micros(ms: float) -> int:
    return round(ms * 1e3)


def judged(tables: CostTables) -> float:
    """The least milliseconds of a chain, proven by CP-SAT."""
    n, model = len(tables.names), cp_model.CpModel()
    ring = tables.client is None
    used = [model.NewBoolVar(f"used{i}") for i in range(n)]
    first = [model.NewBoolVar(f"first{i}") for i in range(n)]
    last = [model.NewBoolVar(f"last{i}") for i in range(n)]
    arcs, cost = [], []
    for i in range(n):
        arcs += [(n, i, first[i]), (i, n, last[i]), (i, i, used[i].Not())]
        cost += [micros(tables.enter_ms[i]) * first[i], micros(tables.final_ms[i] + tables.head_ms[i]) * last[i]]
        for j in range(n):
            if i != j:
                arc = model.NewBoolVar(f"arc{i}_{j}")
                arcs.append((i, j, arc))
                cost.append(micros(tables.hop_ms[i, j]) * arc)
                if ring:
                    closes = model.NewBoolVar(f"closes{i}_{j}")  # from the last i to the first j
                    model.Add(closes >= last[i] + first[j] - 1)
                    cost.append(micros(tables.back_ms[i, j]) * closes)
    model.AddCircuit(arcs)
    layers = []
    for i in range(n):
        count = model.NewIntVar(0, tables.layers, f"layers{i}")
        layers.append(count)
        model.Add(count >= used[i])
        most = int(tables.capacity.max(initial=0)) + tables.layers
        model.Add(count <= most * used[i])
        for place, room in (
            ([first[i].Not(), last[i].Not()], tables.capacity),
            ([first[i], last[i].Not()], tables.capacity_first),
            ([first[i].Not(), last[i]], tables.capacity_last),
            ([first[i], last[i]], tables.capacity_only),
        ):
            model.Add(count <= int(room[i])).OnlyEnforceIf(place)
        cost += [micros(tables.overhead_ms[i]) * used[i], micros(tables.layer_ms[i]) * count]
    model.Add(sum(layers) == tables.layers)
    model.Minimize(sum(cost))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = LIMIT_S
    assert solver.Solve(model) == cp_model.OPTIMAL
    return float(solver.ObjectiveValue() / 1e3 + tables.client_head_ms)


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("seed", [3, 4])
def test_what_is_called_the_optimum_is_one_to_another_solver(seed: int, client: bool) -> None:
    tables = tables_of(seed, 20, layers=24, pattern="chain", client=client, room=4.0)
    found = solve(tables, time_limit_s=60.0)
    assert found.exact
    assert found.value_ms == pytest.approx(judged(tables), abs=0.05)


@pytest.mark.parametrize("client", [False, True])
def test_without_numba_the_optimum_is_the_same(client: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = tables_of(5, 24, layers=24, pattern="chain", client=client, room=4.0)
    found = solve(tables, time_limit_s=60.0)
    for module in ("bounds.certify", "bounds.subproblem", "solvers.descent"):
        monkeypatch.setattr(f"swarm_predict.search.{module}.fast", lambda: None)
    slowly = solve(tables, time_limit_s=60.0)
    assert found.exact
    assert slowly.exact
    assert slowly.value_ms == pytest.approx(found.value_ms)
    assert np.isclose(slowly.bound_ms, found.bound_ms)
