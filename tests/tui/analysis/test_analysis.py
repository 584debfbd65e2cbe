"""Claims about the ranking: which nodes are in it, in what order, and how it shows missing figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from swarm_predict.model.catalogue import model_named
from swarm_predict.types import PredictError, Workload
from swarm_protocol.messages.running import Running
from swarm_protocol.snapshot.swarm import Event, Kind, LayerTime, NodeFacts, State, Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarm_protocol.units import BYTES_PER_GIB
from swarmtop.analysis.analysis import analyse
from swarmtop.analysis.unmeasured import alive, missing

MODEL = model_named("llama-3.1-8b")
GARAGE = (Path(__file__).parents[3] / "examples" / "garage.toml").read_text()


def heard(count: int) -> Swarm:
    """A live swarm in which everything is measured."""
    layer = LayerTime(model=MODEL.name, phase="decode", batch=1, context=128, ms=0.6)
    swarm = Swarm.empty(
        tuple(NodeFacts(node_id=f"{i:016x}", name=f"n{i}", layers=(layer,)) for i in range(count)), at_ns=10**18
    )
    swarm.nodes["state"][:] = State.OK
    swarm.nodes["seen_ns"][:] = 10**18
    swarm.nodes["vram_bytes"][:] = swarm.nodes["vram_free_bytes"][:] = 24 * BYTES_PER_GIB
    for column in ("up_mbps", "down_mbps"):
        swarm.nodes[column][:] = 100.0
    swarm.nodes["up_kind"][:] = swarm.nodes["down_kind"][:] = Kind.MEASURED
    swarm.nodes["mem_gbps"][:] = 800.0
    swarm.nodes["tflops"][:] = 60.0
    swarm.links["kind"][:] = Kind.MEASURED
    swarm.links["sent"][:] = 100
    for column, value in (("rtt_min_ms", 20.0), ("rtt_p50_ms", 21.0), ("jitter_ms", 2.0), ("loss", 0.0)):
        swarm.links[column][:] = value
    return swarm


def test_every_node_is_ranked_once_the_placement_first_then_spares_then_who_is_left_out() -> None:
    found = analyse(parse_swarm(GARAGE), MODEL, Workload())
    assert [row.rank for row in found.rows] == [1, 2, 3, 4, 5, 6]
    assert {row.name for row in found.rows} == set(parse_swarm(GARAGE).names)
    assert [row.role for row in found.rows] == ["in"] + ["spare"] * 4 + ["out"]
    assert found.rows[-1].why.startswith("no memory for layers is known")
    assert found.plan is not None
    assert found.why_not is None


def test_machines_that_are_too_small_together_say_so_and_not_that_a_path_is_missing() -> None:
    timed = parse_swarm("".join(f'[[node]]\nname = "{name}"\ngpu = "RTX 3090"\naccess = "fiber"\n' for name in "ab"))
    found = analyse(timed, model_named("qwen3-32b"), Workload())
    assert {row.why for row in found.rows} == {"all nodes together hold too few layers of qwen3-32b in fp16"}


def test_lost_and_departed_nodes_are_not_planned_with_and_stand_last() -> None:
    swarm = heard(5)
    swarm.nodes["state"][0] = State.LOST
    swarm.nodes["state"][1] = State.LEFT
    found = analyse(swarm, MODEL, Workload())
    assert found.plan is not None
    assert {stage.node for stage in found.plan.prediction.placement} <= {"n2", "n3", "n4"}
    assert [row.name for row in found.rows[-2:]] == ["n0", "n1"]
    assert [row.cost_ms for row in found.rows[-2:]] == [None, None]


def test_a_client_that_was_asked_for_stays_even_if_it_is_lost() -> None:
    swarm = heard(3)
    swarm.nodes["state"][:2] = State.LOST
    assert alive(swarm).names == ("n2",)
    assert alive(swarm, "n1").names == ("n1", "n2")


def test_a_swarm_of_which_everything_is_known_misses_nothing() -> None:
    assert missing(heard(4), MODEL, Workload()) == ()


def test_what_is_missing_is_reported_in_one_line_a_kind() -> None:
    swarm = heard(6)
    swarm.nodes["vram_bytes"][0] = float("nan")
    swarm.nodes["mem_gbps"][1:] = float("nan")
    swarm.facts = tuple(NodeFacts(node_id=f.node_id, name=f.name) for f in swarm.facts)
    swarm.links["kind"][2, 3] = swarm.links["kind"][3, 2] = Kind.NONE
    swarm.links["kind"][4, 5] = Kind.NONE  # the other end has measured this pair
    swarm.nodes["up_mbps"][5] = float("nan")
    assert missing(swarm, MODEL, Workload()) == (
        "no memory figure yet of n0",
        "no layer time of llama-3.1-8b yet on n1, n2, n3 and 2 more",
        "no round trip yet between n2–n3",
        "no upload rate yet of n5",
    )


def test_without_any_layer_time_the_reason_is_the_gap_itself() -> None:
    swarm = heard(2)
    swarm.nodes["mem_gbps"][:] = float("nan")
    swarm.facts = tuple(NodeFacts(node_id=f.node_id, name=f.name) for f in swarm.facts)
    found = analyse(swarm, MODEL, Workload())
    assert found.plan is None
    assert found.why_not == "no layer time of llama-3.1-8b yet on n0, n1"
    assert [row.rank for row in found.rows] == [1, 2]


def test_a_node_that_cannot_be_timed_says_why_and_what_to_do() -> None:
    swarm = heard(1)
    swarm.nodes["mem_gbps"][:] = float("nan")
    note = "torch not installed: pip install 'swarmtop[torch]'"
    swarm.facts = (NodeFacts(node_id=swarm.facts[0].node_id, name="n0", note=note),)
    assert missing(swarm, MODEL, Workload()) == (f"no layer time of llama-3.1-8b yet on n0 (n0: {note})",)


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        (("no torch", "no torch"), "(no torch)"),
        (("no torch", ""), "(n0: no torch)"),
        (("old", "busy"), "(n0: old; n1: busy)"),
    ],
)
def test_a_reason_that_all_untimed_nodes_have_is_said_once(notes: tuple[str, str], said: str) -> None:
    swarm = heard(2)
    swarm.nodes["mem_gbps"][:] = float("nan")
    pairs = zip(swarm.facts, notes, strict=True)
    swarm.facts = tuple(NodeFacts(node_id=one.node_id, name=one.name, note=note) for one, note in pairs)
    assert missing(swarm, MODEL, Workload())[0] == f"no layer time of llama-3.1-8b yet on n0, n1 {said}"


def test_an_empty_swarm_has_no_plan_and_says_why() -> None:
    found = analyse(Swarm.empty(()), MODEL, Workload())
    assert (found.plan, found.rows) == (None, ())
    assert found.why_not == "no node yet"


def test_a_swarm_in_which_nobody_answers_says_so() -> None:
    swarm = heard(2)
    swarm.nodes["state"][:] = State.LOST
    assert analyse(swarm, MODEL, Workload()).why_not == "no node answers: n0, n1 lost or left"


def test_a_question_that_is_wrong_for_any_swarm_is_an_error_not_a_remark() -> None:
    with pytest.raises(PredictError, match="not a known format"):
        analyse(heard(2), MODEL, Workload(weights="fp17"))


def with_running(swarm: Swarm, placement: str) -> Swarm:
    return dataclasses.replace(swarm, running=Running(placement, source="test"))


def test_a_node_of_the_running_placement_that_is_lost_stands_first_and_nothing_runs() -> None:
    swarm = with_running(heard(5), "n0:0-10,n1:11-20,n2:21-31")
    swarm.nodes["state"][1] = State.LOST
    found = analyse(swarm, MODEL, Workload())
    first = found.rows[0]
    assert (first.name, first.role, first.word) == ("n1", "in", "lost")
    assert [row.role for row in found.rows[:3]] == ["in"] * 3
    assert found.running is not None
    assert (found.running.tokens_per_s, found.running.down) == (None, ("n1",))
    assert found.headline().startswith("you run nothing (n1 lost), best ")


def test_states_are_one_word_and_the_worst_counts() -> None:
    swarm = with_running(heard(6), "n0:0-10,n1:11-20,n2:21-31")
    swarm.links["rtt_min_ms"][1] = swarm.links["rtt_p50_ms"][1] = 300.0
    swarm.links["rtt_min_ms"][:, 1] = swarm.links["rtt_p50_ms"][:, 1] = 300.0
    swarm.nodes["state"][3:6] = [State.STALE, State.LOST, State.LEFT]
    words = {row.name: row.word for row in analyse(swarm, MODEL, Workload()).rows}
    assert words == {"n0": "ok", "n1": "slow", "n2": "ok", "n3": "stale", "n4": "lost", "n5": "lost"}
    changed = dataclasses.replace(swarm, events=(Event(1, "n1", "degraded", "RTT 21 → 300 ms to all peers"),))
    row = next(row for row in analyse(changed, MODEL, Workload()).rows if row.name == "n1")
    assert row.word == "degraded"
    assert row.why.startswith("RTT 21 → 300 ms to all peers; rtt: typical here")
    ended = Event(2, "n1", "recovered", "RTT 300 → 21 ms to all peers, after 80 s")
    over = dataclasses.replace(changed, events=(*changed.events, ended))
    assert next(row for row in analyse(over, MODEL, Workload()).rows if row.name == "n1").word == "slow"


def test_a_running_placement_of_another_model_is_reported_and_the_best_plan_stands() -> None:
    found = analyse(with_running(heard(3), "n0:0-39,n1:40-79"), MODEL, Workload())
    assert found.running is not None
    assert found.running.placement == ()
    assert "goes beyond llama-3.1-8b" in found.notes[0]
    assert found.stands is found.best is not None


def test_a_plan_that_is_clearly_beaten_does_not_stay_however_short_ago_it_was_best() -> None:
    swarm = heard(4)
    swarm.nodes["vram_bytes"][:] = 9 * BYTES_PER_GIB
    before = analyse(swarm, MODEL, Workload())
    assert before.best is not None
    used = before.best.placement[0].node
    worse = dataclasses.replace(swarm, at_ns=swarm.at_ns + 10**9, links={k: v.copy() for k, v in swarm.links.items()})
    row = swarm.index(used)
    for column in ("rtt_min_ms", "rtt_p50_ms"):
        worse.links[column][row] = worse.links[column][:, row] = 900.0
    after = analyse(worse, MODEL, Workload(), before)
    fresh = analyse(worse, MODEL, Workload())
    assert after.best is not None
    assert fresh.best is not None
    assert after.best.tokens_per_s.p50 == pytest.approx(fresh.best.tokens_per_s.p50, rel=0.01)
