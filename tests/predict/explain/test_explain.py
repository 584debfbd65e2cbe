"""Explanation of a run: the term that differs is named first, and what no term explains is reported as such."""

from __future__ import annotations

import dataclasses

import pytest

from swarm_predict.explain.explanation import Explanation, explain
from swarm_predict.explain.usual import usual_layers
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import PredictError, Workload
from swarm_protocol.snapshot.swarm import LayerTime, Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm

pytestmark = pytest.mark.priors

LLAMA8 = model_named("llama-3.1-8b")
LOAD = Workload(weights="q4_k_m", engine="llama.cpp", draws=600)
SPLIT = "a:0-15,b:16-31"
CARDS = {"a": "RTX 3090", "b": "RTX A4000", "c": "RTX 3060"}


def swarm(*, rtt_ms: float = 2.0, more: str = "", **layer_ms: float) -> Swarm:
    """Three machines; `a=1.9` is a measured layer of a."""
    return parse_swarm(_text(rtt_ms=rtt_ms, more=more, **layer_ms))


def _text(*, rtt_ms: float, more: str, **layer_ms: float) -> str:
    parts = []
    for name, card in CARDS.items():
        parts.append(f'[[node]]\nname = "{name}"\ngpu = "{card}"\nup_mbps = 500.0\ndown_mbps = 500.0')
        if name in layer_ms:
            parts.append(
                f'[[node.layer]]\nmodel = "llama-3.1-8b"\nphase = "decode"\nbatch = 1\ncontext = 128\n'
                f'ms = {layer_ms[name]}\ndtype = "q4_k_m"'
            )
    parts.append(f'[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = {rtt_ms}\n{more}')
    return "\n".join(parts)


def why(machines: Swarm, got_ms: float | None = None, load: Workload = LOAD, placement: str = SPLIT) -> Explanation:
    return explain(machines, LLAMA8, parse_placement(placement, LLAMA8, machines, load.engine), load, got_ms)


def expected_ms(machines: Swarm, load: Workload = LOAD) -> float:
    return predict(machines, LLAMA8, parse_placement(SPLIT, LLAMA8, machines), load).tpot_ms.p50


def first(found: Explanation) -> tuple[str, str, str]:
    return found.terms[0].kind, found.terms[0].node, found.terms[0].to


def test_a_machine_slower_than_its_kind_explains_a_run_that_was_expected() -> None:
    machines = swarm(a=0.25, b=1.9)
    found = why(machines, expected_ms(machines))
    assert found.verdict == "as expected"
    assert first(found) == ("layers", "b", "")
    term = found.terms[0]
    assert term.usual is not None
    assert term.here_ms > term.usual.p95
    assert term.explains_ms == pytest.approx(16 * 1.9 - term.usual.p50, rel=0.05)
    assert "1.9 ms a layer, measured; machines like it (RTX A4000) take " in term.evidence[0]


def test_what_terms_explain_and_what_they_do_not_adds_up_to_the_difference_from_the_usual() -> None:
    machines = swarm(a=0.3, more="jitter_ms = 3.0\nloss = 0.005\n")
    for got_ms in (expected_ms(machines), 60.0, 500.0):
        found = why(machines, got_ms)
        usual = [term.here_ms - term.beside_usual_ms for term in found.terms]
        assert sum(usual) + sum(t.explains_ms for t in found.terms) + found.unexplained_ms == pytest.approx(got_ms)


def test_a_path_longer_and_thinner_than_the_others_is_named_with_what_the_others_have() -> None:
    far = "".join(
        f'[[link]]\nfrom = "{src}"\nto = "{dst}"\nrtt_ms = 90.0\nmbps = {mbps}\n'
        for src, dst, mbps in (("*", "c", 500), ("c", "*", 2))
    )
    more = '[[node]]\nname = "home"\nup_mbps = 500.0\ndown_mbps = 500.0\n'
    machines = parse_swarm(more + _text(rtt_ms=2.0, more=far, a=0.2, b=0.35, c=0.4) + '[client]\nnode = "home"\n')
    found = why(machines, placement="a:0-15,c:16-31")
    paths = {(term.node, term.to): term for term in found.terms if term.kind == "path"}
    assert paths["home", "c"].explains_ms == pytest.approx(44, abs=1)
    assert "home reaches the others in 2 ms" in paths["home", "c"].evidence
    assert paths["c", "home"].explains_ms == pytest.approx(44 + 513 * 8 / 2 - 513 * 8 / 500, rel=0.02)  # its logits
    assert "the others send to home at 500 Mbit/s" in paths["c", "home"].evidence
    assert paths["home", "a"].explains_ms == pytest.approx(0, abs=0.1)


def test_time_beyond_every_draw_is_not_shared_out() -> None:
    found = why(swarm(a=0.25, b=0.35), 900.0)
    assert found.verdict == "slower"
    assert found.unexplained_ms > 700
    assert all(term.here_ms + term.beside_expected_ms < 300 for term in found.terms)


def test_a_faster_run_is_said_to_be_faster_and_one_that_physics_forbids_impossible() -> None:
    machines = swarm()
    expected = predict(machines, LLAMA8, parse_placement(SPLIT, LLAMA8, machines), LOAD).tpot_ms
    faster = why(machines, expected.p5 * 0.97)
    assert faster.verdict == "faster"
    assert faster.terms[0].explains_ms < 0
    impossible = why(machines, 3.0)
    assert impossible.verdict == "impossible"
    assert "ms a token; another model, format, placement" in impossible.why_impossible
    assert all(term.beside_expected_ms == 0 for term in impossible.terms)


def test_without_a_run_it_is_said_what_is_not_measured_and_what_to_measure_first() -> None:
    found = why(swarm(a=0.25))
    assert (found.verdict, found.got_ms, found.unexplained_ms) == ("not measured", None, 0.0)
    assert {(term.kind, term.node) for term in found.terms if not term.measured} >= {("layers", "b")}
    assert ("b", "layer times") in {(each.node, each.what) for each in found.measure_next}
    assert ("a", "layer times") not in {(each.node, each.what) for each in found.measure_next}


def test_a_machine_of_no_known_kind_has_nothing_usual() -> None:
    machines = swarm(a=0.25, b=0.35)
    facts = tuple(
        dataclasses.replace(each, device="", device_class="", sheet="") if each.name == "b" else each
        for each in machines.facts
    )
    found = why(dataclasses.replace(machines, facts=facts, _index={}), 60.0)
    layers = next(term for term in found.terms if (term.kind, term.node) == ("layers", "b"))
    assert layers.usual is None
    assert "nothing usual to compare with: its device is not named" in layers.evidence


def test_throttling_marks_and_a_like_device_are_evidence() -> None:
    machines = swarm(a=0.25, b=1.9, c=0.5)
    layer = LayerTime("llama-3.1-8b", "decode", 1, 128, 1.9, dtype="q4_k_m", marks="throttled,contended")
    facts = tuple(
        dataclasses.replace(each, layers=(layer,))
        if each.name == "b"
        else dataclasses.replace(each, device="RTX A4000")
        for each in machines.facts
    )
    placement = parse_placement(SPLIT, LLAMA8, machines)
    told = dataclasses.replace(machines, facts=facts, _index={})
    said = explain(told, LLAMA8, placement, LOAD, 70.0, {"b": 0.34}).terms[0].evidence
    assert "it was throttled 34 % of the time" in said
    assert "it was throttled while the layer was timed" in said
    assert any(line.startswith("the same device here: a 0.25 ms") for line in said)


def test_nodes_that_share_every_layer_are_explained_by_the_slowest_share() -> None:
    load = dataclasses.replace(LOAD, engine="tensor-parallel")
    found = why(swarm(a=0.25, b=1.9), 400.0, load, "a:0-31,b:0-31")
    kinds = {term.kind: term for term in found.terms}
    assert kinds["layers"].node == "b"
    assert kinds["layers"].usual is not None
    assert kinds["layers"].beside_usual_ms > 0
    assert kinds["path"].count == 64


def test_the_nearest_published_setups_of_one_and_of_several_machines_stand_beside() -> None:
    one, several = why(swarm(a=0.25, b=0.35)).nearest
    assert (one.model, one.weights, len(one.nodes)) == ("llama-3.1-8b", "q4_k_m", 1)
    assert one.hop_ms is None
    assert len(several.nodes) > 1
    assert None not in (several.hop_ms, several.hop_ms_here)
    alone = why(swarm(a=0.25), placement="a:0-31").nearest
    assert [len(each.nodes) for each in alone] == [1]


def test_usual_layer_times_know_the_card_and_not_what_was_measured() -> None:
    slow, fast = swarm(a=9.0), swarm(a=0.1)
    (one,), (other,) = (usual_layers(each, [0], LLAMA8, LOAD) for each in (slow, fast))
    assert one == other
    assert one is not None
    assert one.p5 < 0.25 < one.p95


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(PredictError, match="not a valid time of a run"):
        why(swarm(), float("nan"))
