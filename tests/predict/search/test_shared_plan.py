"""Plans of machines that share layers: against every placement of small swarms, engines' rules, and published runs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import pytest
from boxes import Box, swarm_of
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_predict.cost.engines import ENGINES
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import parse_placement
from swarm_predict.priors.posterior import NEUTRAL
from swarm_predict.search.solve import plan
from swarm_predict.types import BadPlacement, DoesNotFit, Placement, Stage, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm

LLAMA8, LLAMA7 = model_named("llama-3.1-8b"), model_named("llama-2-7b")
SMALL = ModelShape("four layers", 4, LLAMA8.layer, 1000, tied=False)
SHARING = sorted(name for name, facts in ENGINES.items() if facts.pattern == "all-reduce")


def load(engine: str, **more: object) -> Workload:
    return Workload(engine=engine, priors=NEUTRAL, draws=1, **more)  # type: ignore[arg-type]


def swarm(speeds: list[float], rtts: list[float], *, vram_gib: float = 100.0, mbps: float = 1000.0) -> Swarm:
    """`speeds` in ms a layer, `rtts` of the pairs in order."""
    names = "abcdefghijkl"[: len(speeds)]
    boxes = [
        Box(n, vram_gib=vram_gib, up_mbps=mbps, down_mbps=mbps, layers=[("decode", 1, 128, ms)])
        for n, ms in zip(names, speeds, strict=True)
    ]
    pairs = dict(zip(itertools.combinations(names, 2), rtts, strict=True))
    return swarm_of(boxes, {**pairs, **{(b, a): ms for (a, b), ms in pairs.items()}})


def groupings(names: str, groups: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if not names:
        yield groups
        return
    yield from groupings(names[1:], groups)
    yield from groupings(names[1:], (*groups, names[0]))
    for k, group in enumerate(groups):
        yield from groupings(names[1:], (*groups[:k], group + names[0], *groups[k + 1 :]))


def every_placement(names: str, layers: int) -> Iterator[Placement]:
    """All groups in all orders, whoever leads them and however their machines meet, with all splits of the layers."""
    for groups in groupings(names):
        if not 0 < len(groups) <= layers:
            continue
        for order in itertools.permutations(groups):
            for cuts in itertools.combinations(range(1, layers), len(groups) - 1):
                ends = [0, *cuts, layers]
                for met in itertools.product(*(itertools.permutations(group) for group in order)):
                    yield tuple(
                        Stage(n, ends[k], ends[k + 1] - 1) for k, group in enumerate(met) for n in group
                    )  # fmt: skip


@settings(max_examples=6, deadline=None)
@given(
    speeds=st.lists(st.floats(0.5, 20), min_size=3, max_size=3),
    rtts=st.lists(st.floats(0.1, 20), min_size=3, max_size=3),
    kind=st.sampled_from(["doubling", "ring", "tree", "mesh", "gloo"]),
    vram=st.sampled_from([1.2, 100.0]),
)
def test_no_placement_of_groups_is_below_the_bound_or_better_than_the_plan(speeds, rtts, kind, vram):
    where, question = swarm(speeds, rtts, vram_gib=vram), load("hybrid", all_reduce=kind)
    prices = []
    for placement in every_placement("abc", SMALL.layers):
        found = predict(where, SMALL, placement, question)
        if found.fits:
            prices.append(found.tpot_ms.p50)
    if not prices:
        with pytest.raises(DoesNotFit):
            plan(where, SMALL, question)
        return
    found = plan(where, SMALL, question)
    assert found.prediction.fits
    assert found.bound_ms <= min(prices) * (1 + 1e-9)
    # whoever leads a group and the order in which machines meet are chosen by a rule: within what the bound says
    assert found.prediction.tpot_ms.p50 <= min(prices) * (1 + found.gap + 1e-9)
    if found.exact:
        assert found.prediction.tpot_ms.p50 == pytest.approx(min(prices))


@pytest.mark.parametrize("engine", SHARING)
def test_every_engine_that_shares_layers_is_planned_within_its_rules(engine):
    where, facts = swarm([4.0] * 6, [0.1] * 15), ENGINES[engine]
    found = plan(where, LLAMA8, load(engine))
    sizes = {}
    for stage in found.prediction.placement:
        sizes.setdefault((stage.first, stage.last), []).append(stage.node)
    counts = [len(members) for members in sizes.values()]
    if not facts.uneven:
        assert all(count in facts.sizes_allowed(LLAMA8, 6) for count in counts)
    assert not facts.equal_groups or len(set(counts)) == 1
    assert found.bound_ms <= found.prediction.tpot_ms.p50 * (1 + 1e-9)
    assert max(speed for _, speed in found.by_machines) == pytest.approx(found.prediction.tokens_per_s.p50, rel=1e-6)
    assert found.prediction.tokens_per_s.p50 > 1e3 / (32 * 4.0)  # faster than one machine alone


def test_near_pairs_become_groups_and_groups_a_pipeline():
    """Two machines in each of two homes, none of which holds the model alone."""
    near, far = 0.2, 60.0
    where = swarm([8.0] * 4, [near, far, far, far, far, near], vram_gib=6.0)
    found = plan(where, LLAMA8, load("hybrid"))
    ranges = {stage.node: (stage.first, stage.last) for stage in found.prediction.placement}
    assert ranges["a"] == ranges["b"] != ranges["c"] == ranges["d"]
    assert found.exact


def test_unequal_machines_take_unequal_shares_where_the_engine_lets_them():
    where = swarm([2.0, 8.0], [0.1])
    found = plan(where, LLAMA8, load("tensor-parallel"))
    layers = {stage.node: stage.layers for stage in found.prediction.placement}
    assert layers["a"] in (25, 26)
    assert layers["a"] + layers["b"] == 32
    equal = plan(where, LLAMA8, load("exo-tensor"))
    assert [(s.node, s.layers) for s in equal.prediction.placement] == [("a", 32)]  # an equal share of b is slower


def test_many_machines_are_searched_and_bounded():
    names = 11
    pairs = list(itertools.combinations(range(names), 2))
    where = swarm([4.0 + k for k in range(names)], [0.3 if a // 3 == b // 3 else 25.0 for a, b in pairs])
    found = plan(where, LLAMA8, load("hybrid"))
    assert 0 <= found.gap < 0.5
    best_three = predict(where, LLAMA8, tuple(Stage(n, 0, 31) for n in "abc"), load("hybrid")).tpot_ms.p50
    assert found.prediction.tpot_ms.p50 <= best_three * (1 + 1e-9)


@pytest.mark.parametrize(
    ("engine", "text", "line"),
    [
        ("distributed-llama", "a:0-31,b:0-31,c:0-31", "runs on powers of two of machines, at most the 8 KV heads"),
        ("exo-tensor", "a:0-31,b:0-31,c:0-31", "divides the 8 KV heads of llama-3.1-8b, not 3; take 2"),
        ("vllm-tp", "a:0-15,b:0-15,c:16-31", r"the same number of machines in each stage, not \[2, 1\]"),
        ("distributed-llama", "a:0-15,b:16-31", "gives each machine an equal share of every layer; write a:0-31"),
    ],
)
def test_numbers_of_machines_that_an_engine_does_not_take_are_refused(engine, text, line):
    where = swarm([4.0] * 3, [1.0] * 3)
    with pytest.raises(BadPlacement, match=line):
        predict(where, LLAMA8, parse_placement(text, LLAMA8, where, engine), load(engine))


def test_the_default_all_reduce_is_the_engines():
    assert {name: ENGINES[name].all_reduce for name in ("distributed-llama", "exo-tensor", "exo-tensor-tcp")} == {
        "distributed-llama": "mesh", "exo-tensor": "mesh", "exo-tensor-tcp": "ring",
    }  # fmt: skip
    where, text = swarm([4.0] * 2, [10.0], mbps=100.0), "a:0-31,b:0-31"
    question = load("distributed-llama")
    mesh, ring = (
        predict(where, LLAMA8, parse_placement(text, LLAMA8, where, "distributed-llama"), each).breakdown_ms.network
        for each in (question, dataclasses.replace(question, all_reduce="ring"))
    )
    # 64 rounds of half a round trip and 4096 elements of 8.5 bits; in fp32 the embedded token, half of the logits
    message, embedded = 4096 * 34 / 32 * 8 / 100e3, 4096 * 4 * 8 / 100e3
    assert mesh == pytest.approx(64 * (5 + message) + 5 + embedded + 5 + 128_256 * 4 / 2 * 8 / 100e3)
    assert ring > mesh


@pytest.mark.parametrize(("machines", "kilobytes"), [(2, 544), (4, 1632), (8, 3808)])
def test_bytes_of_distributed_llama_are_the_published_ones(machines, kilobytes):
    """Of one machine and token, sent and received, in units of 1024 (README at 4c38a2e)."""
    each = ENGINES["distributed-llama"].reduce_bytes(LLAMA8, 1, "fp16")
    assert 2 * LLAMA8.layers * each * (machines - 1) * 2 / 1024 == pytest.approx(kilobytes, rel=0.001)


@pytest.mark.priors
def test_eight_raspberry_pi_4_are_slower_than_four_as_published():
    """distributed-llama README at 4c38a2e (2024-06), Llama 2 7B q40: 1312.50, 793.69, 494.00 and 588.19 ms a token."""
    text = "".join(
        f'[[node]]\nname = "p{k}"\ngpu = "Raspberry Pi 4 8GB"\nup_mbps = 940\ndown_mbps = 940\n' for k in range(8)
    )
    where = parse_swarm(text + '[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = 0.35\n')
    found = plan(where, LLAMA7, Workload(engine="distributed-llama", weights="q4_0"))
    assert len(found.prediction.placement) == 4
    speeds = dict(found.by_machines)
    assert list(speeds) == [1, 2, 4, 8]
    for machines, published_ms in ((1, 1312.50), (2, 793.69), (4, 494.00), (8, 588.19)):
        assert 1e3 / speeds[machines] == pytest.approx(published_ms, rel=0.25)
