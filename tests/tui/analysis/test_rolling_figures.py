"""Figures of a large live swarm: computed a few nodes at a time, and in the end what they would be all at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_protocol.snapshot.links.compact_links import CompactColumn, compacted
from swarm_protocol.snapshot.swarm import Kind, LayerTime, NodeFacts, Swarm
from swarmtop.analysis.ranking import node_figures
from swarmtop.analysis.ranking.node_figures import Figures, figures
from swarmtop.analysis.ranking.rolling_figures import RollingFigures

NOW_NS = 1_795_442_537_000_000_000
NODES = 40
MODEL = "llama-2-70b"
MAX_NODES = 8


def swarm(seed: int, density: float = 1.0) -> Swarm:
    rng = np.random.default_rng(seed)
    made = Swarm.empty(tuple(NodeFacts(f"{i:032x}", f"n{i}") for i in range(NODES)), at_ns=NOW_NS)
    known = rng.random((NODES, NODES)) < density
    rtt = rng.integers(40, 2_400, (NODES, NODES)) / 8
    for name, factor in (("rtt_p50_ms", 1.0), ("rtt_p99_ms", 1.5), ("jitter_ms", 0.25), ("loss", 1 / 1024)):
        made.links[name][known] = (rtt * factor)[known]
    made.links["kind"][known] = rng.choice([Kind.MEASURED, Kind.MEASURED, Kind.ESTIMATE], (NODES, NODES))[known]
    made.links["at_ns"][known] = NOW_NS
    return made


def changed(frame: Swarm, rows: list[int], seed: int) -> Swarm:
    """The next frame: new windows of these nodes to all others."""
    rng = np.random.default_rng(seed)
    links = dict(frame.links)
    at = (np.array(rows)[:, None] * NODES + np.arange(NODES)).reshape(-1)
    for name in ("rtt_p50_ms", "rtt_p99_ms", "jitter_ms"):
        column: Any = links[name]
        assert isinstance(column, CompactColumn)
        links[name] = column.with_cells(at, rng.integers(40, 2_400, len(at)) / 8)  # type: ignore[assignment]
    return dataclasses.replace(frame, links=links, at_ns=frame.at_ns + 250_000_000, _index={})


def assert_same(one: Figures, other: Figures) -> None:
    for name, mine, theirs in zip(one.of_links._fields, one.of_links, other.of_links, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    for name in one.__struct_fields__:
        if name != "of_links":
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.lists(st.lists(st.integers(0, NODES - 1), min_size=1, max_size=4), max_size=5),
)
def test_figures_worked_out_in_turn_end_as_those_worked_out_at_once(
    seed: int, density: float, steps: list[list[int]]
) -> None:
    frame = compacted(swarm(seed, density))
    rolling = RollingFigures(MAX_NODES)
    rolling.update(frame, MODEL)
    for number, rows in enumerate(steps):
        frame = changed(frame, rows, number)
        rolling.update(frame, MODEL)
    updates = 0
    while not rolling.complete:
        rolling.update(frame, MODEL)
        updates += 1
    assert updates <= NODES // MAX_NODES + 1
    assert_same(rolling.update(frame, MODEL), figures(frame, MODEL, frame.at_ns))


def test_update_works_out_a_bounded_number_of_nodes_and_those_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[int] = []
    real = node_figures.of_links

    def counted(links: Any, rows: Any) -> Any:
        worked.append(len(rows))
        return real(links, rows)

    frame = compacted(swarm(1))
    rolling = RollingFigures(MAX_NODES)
    rolling.update(frame, MODEL)
    monkeypatch.setattr(node_figures, "of_links", counted)
    frame = changed(frame, [0], 5)
    in_sight = np.array([37, 38])
    found = rolling.update(frame, MODEL, in_sight)
    assert worked == [MAX_NODES + len(in_sight)]
    whole = figures(frame, MODEL, frame.at_ns)
    np.testing.assert_array_equal(found.rtt50_ms[in_sight], whole.rtt50_ms[in_sight])
    assert not rolling.complete


def test_frame_without_news_of_links_works_out_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = compacted(swarm(2))
    rolling = RollingFigures(MAX_NODES)
    rolling.update(frame, MODEL)
    later = dataclasses.replace(frame, at_ns=frame.at_ns + 1_000_000_000, _index={})
    whole = figures(later, MODEL, later.at_ns)
    monkeypatch.setattr(node_figures, "of_links", lambda _links, _rows: pytest.fail("worked out again"))
    assert_same(rolling.update(later, MODEL), whole)


def test_node_that_joins_and_another_model_begin_again() -> None:
    frame = compacted(swarm(3))
    rolling = RollingFigures(MAX_NODES)
    rolling.update(frame, MODEL)
    timed = LayerTime(model="other", phase="decode", batch=1, context=128, ms=3.5)
    facts = (dataclasses.replace(frame.facts[0], layers=(timed,)), *frame.facts[1:])
    frame = dataclasses.replace(frame, facts=facts, _index={})
    assert np.isnan(rolling.update(frame, MODEL).layer_ms[0])
    assert rolling.update(frame, "other").layer_ms[0] == 3.5
    smaller = compacted(Swarm.empty(facts[:-1], at_ns=NOW_NS))
    assert_same(rolling.update(smaller, MODEL), figures(smaller, MODEL, NOW_NS))
