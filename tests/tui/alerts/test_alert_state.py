"""Claims about when an alert fires: a list of moments and figures goes in, the changes come out."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Kind, NodeFacts, State, Swarm
from swarmtop.alerts.state import SILENT_S, Alerts, Change, SilenceAlert, parse_alert
from swarmtop.analysis.analysis import unplanned
from swarmtop.analysis.rules import RuleError

S = 1_000_000_000
MODEL = model_named("tiny")


def swarm_with(rtt_ms: float | None, names: tuple[str, ...] = ("a", "b")) -> Swarm:
    swarm = Swarm.empty(tuple(NodeFacts(name, name) for name in names), at_ns=10**18)
    swarm.nodes["state"][:] = State.OK
    if rtt_ms is not None:
        swarm.links["rtt_p99_ms"][0, 1] = rtt_ms
        swarm.links["kind"][0, 1] = Kind.MEASURED
    return swarm


class Played:
    def __init__(self, *rules: str) -> None:
        self.alerts = Alerts([parse_alert(rule) for rule in rules])

    def at(self, second: float, rtt_ms: float | None, **more: tuple[str, ...]) -> list[tuple[str, str]]:
        swarm = swarm_with(rtt_ms, **more)
        changes = self.alerts.look(round(second * S), swarm, unplanned(swarm, MODEL, Workload()))
        return [(change.state, change.where) for change in changes]


def test_one_bad_window_calls_nobody() -> None:
    played = Played("rtt_p99_ms<100 for 30s clear 60s")
    assert [played.at(t, ms) for t, ms in ((0, 50), (10, 400), (20, 50), (30, 400), (50, 400))] == [[]] * 5


def test_what_stays_broken_fires_once_and_clears_once() -> None:
    played = Played("rtt_p99_ms<100 for 30s clear 60s margin 0%")
    assert played.at(0, 400) == []
    assert played.at(29.9, 400) == []
    assert played.at(30, 400) == [("firing", "a>b")]
    assert played.at(500, 400) == []
    assert played.alerts.firing == ("rtt_p99_ms<100: a>b has 400",)
    assert played.at(510, 50) == []
    assert played.at(569.9, 50) == []
    assert played.at(570, 50) == [("cleared", "a>b")]
    assert played.alerts.firing == ()


def test_a_figure_that_sways_about_its_limit_calls_once() -> None:
    """99 holds, but not with 10 % to spare: it keeps firing until the figure is well below."""
    played = Played("rtt_p99_ms<100 for 0s clear 20s margin 10%")
    assert played.at(0, 101) == [("firing", "a>b")]
    assert [played.at(t, 99 if t % 20 else 101) for t in range(10, 300, 10)] == [[]] * 29
    assert played.at(300, 89) == []
    assert played.at(310, 99) == []  # near again: the time it has to hold begins again
    assert played.at(320, 89) == []
    assert played.at(340, 89) == [("cleared", "a>b")]


def test_a_node_that_has_gone_breaks_its_rule() -> None:
    played = Played("rtt_p99_ms@b<100 for 10s")
    assert played.at(0, 50) == []
    assert played.at(10, 50, names=("a", "c")) == []
    assert played.at(20, 50, names=("a", "c")) == [("firing", "b")]


def test_a_name_that_was_never_there_is_an_error() -> None:
    with pytest.raises(RuleError, match="there is no node 'nobody'"):
        Played("rtt_p99_ms@nobody<100").at(0, 50)


def test_nothing_to_judge_fires_like_any_breach() -> None:
    played = Played("rtt_p99_ms<100 for 10s clear 10s")
    assert played.at(0, None) == []
    assert played.at(10, None) == [("firing", "")]
    assert played.at(20, 50) == []
    assert played.at(30, 50) == [("cleared", "")]


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 300)), max_size=60))
def test_firing_and_clearing_take_turns_and_never_come_too_soon(steps: list[tuple[float, float]]) -> None:
    alerts = Alerts([parse_alert("rtt_p99_ms<100 for 30s clear 60s margin 5%")])
    now = 0.0
    changes: list[tuple[float, Change]] = []
    values: list[tuple[float, float]] = []
    for wait, rtt_ms in steps:
        now += wait
        values.append((now, rtt_ms))
        swarm = swarm_with(rtt_ms)
        found = alerts.look(round(now * S), swarm, unplanned(swarm, MODEL, Workload()))
        changes += [(now, change) for change in found]
    assert [change.state for _, change in changes] == ["firing", "cleared"] * (len(changes) // 2) + (
        ["firing"] if len(changes) % 2 else []
    )
    for at, change in changes:
        looked = [ms for t, ms in values if at - (30 if change.state == "firing" else 60) <= t <= at]
        assert all(ms >= 100 for ms in looked) if change.state == "firing" else all(ms < 95 for ms in looked)


def test_a_silent_collector_calls_and_is_heard_again() -> None:
    silence = SilenceAlert("c:9470")
    assert silence.look(10 * S, 0) == []
    (fired,) = silence.look(round(SILENT_S * S), 0)
    assert (fired.state, fired.line) == ("firing", "no news from the collector c:9470 for 60 s")
    assert silence.look(100 * S, 0) == []
    (cleared,) = silence.look(101 * S, 100 * S)
    assert cleared.state == "cleared"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rtt_p99_ms<100 for soon", "soon is not a duration; give 90s, 15m, 2h, 7d or 4w"),
        ("rtt_p99_ms<100 margin 5", "'5' is not a margin; write it as 10%, less than 100%"),
        ("rtt_p99_ms<100 margin 100%", "'100%' is not a margin; write it as 10%, less than 100%"),
        ("rtt_p99_ms<100 for 1m for 2m", "for stands twice in 'rtt_p99_ms<100 for 1m for 2m'"),
        ("nonsense for 1m", "'nonsense' is not a rule; write METRIC<VALUE, as rtt_p99_ms<250"),
    ],
)
def test_what_is_no_alert_is_one_line(text: str, problem: str) -> None:
    with pytest.raises(RuleError) as raised:
        parse_alert(text)
    assert str(raised.value) == problem


def test_all_parts_may_stand_in_any_order() -> None:
    alert = parse_alert("tokens_per_s>4 margin 10% for 2m clear 1h")
    assert (alert.for_s, alert.clear_s, alert.margin, alert.kept.value) == (120, 3600, 0.1, pytest.approx(4.4))
    assert parse_alert("state!=lost").kept == parse_alert("state!=lost").rule
    assert dataclasses.replace(alert).rule.text == "tokens_per_s>4"
