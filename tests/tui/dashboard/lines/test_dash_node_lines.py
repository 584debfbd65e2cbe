"""The Node screen's lines, and alerts."""

from __future__ import annotations

import dataclasses

import dash_fakes as fakes
import numpy as np
import pytest
from dash_views import said, session, view_of

from swarm_predict.explain.usual import Range
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Kind
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.ranking.usual_layer import UsualComparison, compare_with_usual
from swarmtop.dashboard.lines import node_lines
from swarmtop.dashboard.lines.header_footer import alerts
from swarmtop.dashboard.lines.styled import line_width
from swarmtop.sources.source import History


def past(values: list[float | None]) -> History:
    return History(tuple(fakes.NOW_NS + i * NS_PER_S for i in range(len(values))), tuple(values))


@pytest.mark.parametrize("size", [(60, 12), (80, 21), (140, 37), (300, 80)])
@pytest.mark.parametrize("row", range(6))
def test_node_screen_fits(size: tuple[int, int], row: int) -> None:
    view = view_of(fakes.swarm())
    drawn = node_lines.screen(view, row, (1, 6), node_lines.NodeState(), {"rtt_p99": past([1.0, None, 3.0])}, *size)
    assert len(drawn) == size[1]
    assert max(line_width(r) for r in drawn) <= size[0]


def test_missing_layer_time_names_the_command_that_fills_it() -> None:
    assert "pip install 'swarmtop[torch]'" in node_lines.empty_reason(view_of(fakes.swarm()), 4)


def test_chart_without_values_says_so_and_draws_no_line() -> None:
    view = view_of(fakes.swarm())
    text = "\n".join(said(r) for r in node_lines.chart(view, node_lines.NodeState(), past([None, None]), 60, 4))
    assert "nothing measured in this time" in text
    assert "┤" not in text


def test_peers_are_listed_worst_first_and_silent_ones_before_all() -> None:
    frame = fakes.swarm()
    frame.links["rtt_p99_ms"][0, 3] = np.nan
    frame.links["rtt_p99_ms"][3, 0] = np.nan
    assert node_lines.peers(view_of(frame), 0)[0] == 3


def test_a_rule_of_ones_own_is_told_when_it_fires_and_stands_among_the_alerts() -> None:
    made = session(fakes.swarm(), alerts=("rtt_p99_ms<1 for 30s clear 30s",))
    for second in (0, 20, 30):
        made.judge(second * NS_PER_S, fakes.NOW_NS)
    view = made.view(fakes.NOW_NS)
    assert view is not None
    assert len(view.firing) > 1
    assert all(text.startswith("rtt_p99_ms<1: ") for text in view.firing)
    assert made.notice(fakes.NOW_NS).startswith("rtt_p99_ms<1: ")
    assert {event.detail for event in view.events if event.kind == "alert"} == set(view.firing)
    assert any("! rule  rtt_p99_ms<1: " in said(row) for row in alerts(view))


def test_a_node_shows_its_layer_time_beside_what_is_usual_for_its_device() -> None:
    slow = UsualComparison(1.9, Range(0.37, 0.6, 1.13))
    lines = node_lines.hardware(view_of(fakes.swarm()), 0, slow)
    assert (("layer ", "dim"), ("1.90 ms, usual 0.37 to 1.13", "warn")) in lines
    assert UsualComparison(None, slow.usual).text == "–, usual 0.37 to 1.13"
    assert UsualComparison(0.5, None).text == "0.50 ms"
    assert UsualComparison(None, None).text is None


def test_what_is_usual_for_a_device_does_not_depend_on_what_was_measured_there() -> None:
    swarm, model, load = fakes.swarm(), model_named("llama-2-70b"), Workload(weights="int8", engine="llama.cpp")
    known = compare_with_usual(swarm, 0, model, load)
    bare = dataclasses.replace(swarm, facts=(dataclasses.replace(swarm.facts[0], layers=()), *swarm.facts[1:]))
    unknown = compare_with_usual(bare, 0, model, load)
    assert known.usual == unknown.usual is not None
    assert unknown.here_ms is None


def test_kind_of_a_link_rate_is_shown_in_the_peers_table() -> None:
    frame = fakes.swarm()
    frame.links["mbps_kind"][0, :] = Kind.BOUND
    text = "\n".join(said(r) for r in node_lines.peer_table(view_of(frame), 0, 0, 120, 10))
    assert "≥40.0" in text


@pytest.mark.parametrize("width", [40, 52, 60, 80, 120])
def test_columns_of_peers_that_do_not_fit_are_left_out_whole(width: int) -> None:
    """At 40 cells the table ended with `…`, and with the first letter of the figures behind it."""
    table = node_lines.peer_table(view_of(fakes.swarm()), 0, 0, width, 10)
    assert all(line_width(row) <= width for row in table)
    assert said(table[0]).split()[:4] == ["PEER", "RTT50", "RTT99", "JIT"]
