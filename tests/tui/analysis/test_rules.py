"""Claims about rules: what they say, where they hold, and that a check which measures nothing never passes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Event, NodeFacts, State, Swarm
from swarmtop.analysis.analysis import unplanned
from swarmtop.analysis.rules import (
    LINK_METRICS,
    NODE_METRICS,
    SWARM_METRICS,
    RuleError,
    breaches,
    needs_plan,
    parse_rule,
)


def three(rtt_p99_ms: dict[tuple[int, int], float]) -> Swarm:
    """a and b are well, c is lost."""
    swarm = Swarm.empty(tuple(NodeFacts(node_id=name, name=name) for name in "abc"), at_ns=100 * 10**9)
    swarm.nodes["state"][:] = [State.OK, State.OK, State.LOST]
    swarm.nodes["seen_ns"][:] = [99 * 10**9, 95 * 10**9, 10 * 10**9]
    swarm.nodes["up_mbps"][:2] = [38.0, 400.0]
    for (i, j), value in rtt_p99_ms.items():
        swarm.links["rtt_p99_ms"][i, j] = value
    return swarm


def lines(rule: str, swarm: Swarm) -> list[str]:
    found = unplanned(swarm, model_named("llama-3.1-8b"), Workload())
    return [breach.line for breach in breaches(parse_rule(rule), swarm, found)]


def test_changes_are_counted_where_they_are_and_not_after_they_ended():
    swarm = three({})
    changes = [
        Event(at_ns=1, node="a", kind="degraded", detail="RTT 21 → 101 ms to all peers; plan 20.6 → 9.1 tok/s"),
        Event(at_ns=2, node="a", kind="degraded", detail="layer time 0.4 → 0.8 ms"),
        Event(at_ns=3, node="a", kind="degraded", detail="RTT 21 → 50 ms to b"),
    ]
    swarm.events = tuple(changes)
    assert lines("changes==0", swarm) == ["changes==0: a has 3.00", "changes==0: b has 1.00"]
    ended = Event(at_ns=4, node="a", kind="recovered", detail="RTT 101 → 21 ms to 3 of 4 peers, after 60 s")
    swarm.events = (*changes, ended)
    assert lines("changes@a==0", swarm) == ["changes@a==0: a has 2.00"]
    swarm.events = (Event(at_ns=1, node="", kind="degraded", detail="RTT 21 → 70 ms on all 15 links"),)
    assert lines("changes==0", swarm) == ["changes==0: a has 1.00", "changes==0: b has 1.00"]
    swarm.events = ()
    assert lines("changes==0", swarm) == []


LINKS = {(0, 1): 120.0, (1, 0): 611.0, (0, 2): 900.0, (0, 0): 9999.0}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("rtt_p99_ms<1000", []),
        ("rtt_p99_ms < 250", ["rtt_p99_ms < 250: b>a has 611"]),
        ("rtt_p99_ms@a>b<250", []),
        ("rtt_p99_ms@b<100", ["rtt_p99_ms@b<100: a>b has 120", "rtt_p99_ms@b<100: b>a has 611"]),
        ("rtt_p99_ms>=120", []),
        ("rtt_p99_ms!=120", ["rtt_p99_ms!=120: a>b has 120"]),
        ("state!=lost", ["state!=lost: c is lost"]),
        ("state@a==ok", []),
        ("age_s<10", ["age_s<10: c has 90.0"]),
        ("up_mbps>50", ["up_mbps>50: a has 38.0"]),
        ("nodes_ok>=3", ["nodes_ok>=3: the swarm has 2.00"]),
        ("hop_p95_ms<5", ["hop_p95_ms<5: nothing to evaluate, no hop_p95_ms is known yet"]),
        ("layer_ms@b<5", ["layer_ms@b<5: nothing to evaluate, no layer_ms of b is known yet"]),
        ("tokens_per_s>1", ["tokens_per_s>1: nothing to evaluate, no tokens_per_s is known yet"]),
    ],
)
def test_a_rule_is_breached_wherever_it_is_not_true(rule: str, expected: list[str]) -> None:
    assert lines(rule, three(LINKS)) == expected


@pytest.mark.parametrize(
    ("text", "op", "value"),
    [
        ("rtt_p99_ms<250ms", "<", 250.0),
        ("loss@kiln-07<1.5%", "<", 0.015),
        ("up_mbps>=20Mbit/s", ">=", 20.0),
        ("vram_free_gib>4 ", ">", 4.0),
        ("vram_free_gib>4GiB", ">", 4.0),
        ("age_s<60s", "<", 60.0),
        ("tokens_per_s_p5>3", ">", 3.0),
        ("tokens_per_s>3tok/s", ">", 3.0),
        ("changes=0", "==", 0.0),
        ("state=ok", "==", "ok"),
    ],
)
def test_a_value_may_have_the_unit_of_its_metric(text: str, op: str, value: float | str) -> None:
    rule = parse_rule(text)
    assert (rule.op, rule.value) == (op, value)


@pytest.mark.parametrize("text", ["rtt_p99_ms<250s", "loss<1ms", "changes<1%", "up_mbps>20GiB"])
def test_another_unit_is_refused(text: str) -> None:
    with pytest.raises(RuleError, match="is compared with a number, not"):
        parse_rule(text)


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("", "'' is not a rule; write METRIC<VALUE, as rtt_p99_ms<250"),
        ("rtt_p99_ms 250", "'rtt_p99_ms 250' is not a rule; write METRIC<VALUE, as rtt_p99_ms<250"),
        ("rtt_p99_ms<fast", "rtt_p99_ms is compared with a number, not 'fast'"),
        ("rtt_p99_ms<nan", "rtt_p99_ms is compared with a finite number, not 'nan'"),
        ("state<lost", "state is compared with == or != to one of ok, slow, degraded, stale, lost, unknown"),
        ("up_mbps@a>b<3", "up_mbps is a figure of the node, not of a>b"),
        ("nodes_ok@a>3", "nodes_ok is a figure of the swarm, not of a"),
    ],
)
def test_what_is_no_rule_is_reported_in_one_line(rule: str, complaint: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_rule(rule)
    assert str(caught.value) == complaint


def test_an_unknown_metric_or_node_is_no_silent_pass() -> None:
    with pytest.raises(RuleError, match=r"there is no metric 'rtt99'; there are rtt_min_ms, "):
        parse_rule("rtt99<250")
    with pytest.raises(RuleError, match=r"rtt_p99_ms@d<250: there is no node 'd'"):
        lines("rtt_p99_ms@d<250", three(LINKS))


@pytest.mark.parametrize("metric", [*LINK_METRICS, *NODE_METRICS, *SWARM_METRICS])
def test_every_metric_named_in_the_help_can_be_judged(metric: str) -> None:
    text = f"{metric}!=lost" if metric == "state" else f"{metric}<1"
    assert (
        lines(text, Swarm.empty(())) == [f"{text}: nothing to evaluate, no {metric} is known yet"]
        or metric == "nodes_ok"
    )


def test_only_rules_about_cost_and_speed_ask_the_planner() -> None:
    metrics = [m for m in (*LINK_METRICS, *NODE_METRICS, *SWARM_METRICS) if m != "state"]
    asking = [m for m in metrics if needs_plan(parse_rule(f"{m}<1"))]
    assert asking == ["cost_ms", "gain_ms", "running_tokens_per_s", "tokens_per_s", "tokens_per_s_p5"]
    assert [needs_plan(parse_rule(f"state!={word}")) for word in ("lost", "slow")] == [False, True]


@given(text=st.text(max_size=60))
def test_any_text_is_a_rule_or_one_complaint(text: str) -> None:
    with contextlib.suppress(RuleError):
        parse_rule(text)
