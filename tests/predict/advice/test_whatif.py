"""Edits of a plan: their cost is that of the tables, and impossible ones give the reason."""

from __future__ import annotations

import pytest
from swarms import both, plain

from swarm_predict.advice.whatif import WhatIf
from swarm_predict.cost.build import build_tables
from swarm_predict.model.catalogue import model_named
from swarm_predict.search.solve import plan
from swarm_predict.types import BadPlacement, Stage, Workload

MODEL = model_named("llama-2-70b")
INT8 = Workload(weights="int8")


def board(**swarm: object) -> WhatIf:
    made = plain(count=6, trouble=both("n5", 120.0), **swarm)  # type: ignore[arg-type]
    return WhatIf(build_tables(made, MODEL, INT8), plan(made, MODEL, INT8).prediction.placement)


def test_moving_a_boundary_changes_two_stages_only() -> None:
    before = board()
    edit = before.move(0, 2)
    assert [stage.layers for stage in edit.placement] == [
        before.placement[0].layers - 2,
        before.placement[1].layers + 2,
        *(stage.layers for stage in before.placement[2:]),
    ]
    assert edit.placement[-1].last == MODEL.layers - 1
    assert edit.delta_ms == pytest.approx(edit.value_ms - before.value_ms)


def test_moving_there_and_back_is_the_same_placement() -> None:
    before = board()
    there = before.move(0, 1)
    assert WhatIf(before.tables, there.placement).move(0, -1).placement == before.placement


def test_a_move_beyond_memory_does_not_fit() -> None:
    before = board()
    edit = before.move(0, before.placement[0].layers - 1)
    assert not edit.fits


def test_no_edit_of_an_optimal_plan_improves_it() -> None:
    before = board()
    size = len(before.placement)
    outside = [name for name in before.tables.names if name not in {stage.node for stage in before.placement}]
    edits = [before.swap(i, j) for i in range(size) for j in range(i + 1, size)]
    edits += [before.drop(i) for i in range(size)]
    edits += [before.add(name, at) for name in outside for at in range(size + 1)]
    edits += [edit for i in range(size) for edit in before.candidates(i)]
    assert all(edit.delta_ms >= -1e-9 for edit in edits)


def test_candidates_come_best_first_and_the_far_node_last() -> None:
    found = board().candidates(1)
    assert [edit.value_ms for edit in found] == sorted(edit.value_ms for edit in found)
    assert "n5" in found[-1].what


def test_dropping_a_needed_stage_does_not_fit() -> None:
    edit = board().drop(0)
    assert not edit.fits
    assert edit.value_ms == float("inf")


@pytest.mark.parametrize(
    ("act", "line"),
    [
        (lambda b: b.add("nobody", 0), "there is no node 'nobody' in this swarm"),
        (lambda b: b.add(b.placement[0].node, 0), "is in this placement already; a node holds one stage"),
        (lambda b: b.move(99, 1), "there is no boundary after stage 100"),
        (lambda b: b.move(0, 999), "would leave one with none"),
        (lambda b: WhatIf(b.tables, (Stage("n0", 0, 79),)).drop(0), "n0 is the only stage; replace it instead"),
    ],
)
def test_impossible_edits_say_why(act: object, line: str) -> None:
    with pytest.raises(BadPlacement, match=line):
        act(board())  # type: ignore[operator]
