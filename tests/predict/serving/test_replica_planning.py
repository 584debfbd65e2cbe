"""Plans for many users: replicas against one pipeline, and what each machine is best for."""

from __future__ import annotations

import itertools

import pytest
from serving_cases import LINK, MODEL, node, swarm_of

from swarm_predict.serving.lengths import exactly
from swarm_predict.serving.replica_planning import _exact_splits, _members, plan_serving
from swarm_predict.serving.subset_rates import PipelineRates
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import DoesNotFit, Workload
from swarm_protocol.swarm_files.swarm_file import parse_swarm

LOAD = Workload(prefill_chunk=128)


def traffic(arrivals: float) -> Traffic:
    return Traffic(arrivals, exactly(128), exactly(100))


def test_few_requests_get_the_quickest_placement_and_many_get_replicas() -> None:
    """Each of three machines holds the model, one of them is quicker than the others."""
    slow = "".join(node(name) for name in "bc").replace("900.0", "400.0")
    swarm = parse_swarm(node("a") + slow + LINK.format(rtt=60))
    few = plan_serving(swarm, MODEL, LOAD, traffic(0.1))
    assert [[stage.node for stage in each.placement] for each in few.serving.replicas] == [["a"]]
    many = plan_serving(swarm, MODEL, LOAD, traffic(1.5 * few.serving.most_per_s))
    assert many.serving.sustained
    assert [len(each.placement) for each in many.serving.replicas] == [1, 1, 1]
    assert many.exact


def test_a_limit_of_time_per_token_rules_out_what_is_slower() -> None:
    swarm = swarm_of("a", "b", "c", "d", vram=12.0, rtt=60.0)  # two are needed for the model
    free = plan_serving(swarm, MODEL, LOAD, traffic(0.1))
    alone = min(each.light_tpot_ms for each in free.candidates)
    found = plan_serving(swarm, MODEL, LOAD, traffic(0.1), tpot_limit_ms=1.3 * alone)
    chosen = max(each.within_per_s or 0.0 for each in found.candidates)
    assert chosen > 0
    assert found.serving.most_per_s >= chosen
    for each in found.candidates:
        assert each.within_per_s is not None
        assert each.within_per_s <= each.most_per_s
    nothing = plan_serving(swarm, MODEL, LOAD, traffic(0.1), tpot_limit_ms=0.5 * alone)
    assert all(each.within_per_s == 0 for each in nothing.candidates)


def test_no_candidate_is_better_in_both() -> None:
    swarm = swarm_of("a", "b", "c", "d", vram=12.0)
    found = plan_serving(swarm, MODEL, LOAD, traffic(0.5)).candidates
    assert found
    for one, other in itertools.permutations(found, 2):
        assert not (
            one.light_tpot_ms <= other.light_tpot_ms and one.most_tokens_per_s > other.most_tokens_per_s
        ) or one.light_tpot_ms == pytest.approx(other.light_tpot_ms)


def test_splits_are_the_best_of_all_partitions() -> None:
    """Every partition of five unlike machines, by brute force."""
    nodes = "".join(node(name, vram=vram) for name, vram in (("a", 24), ("b", 12), ("c", 10), ("d", 9), ("e", 18)))
    swarm = parse_swarm(nodes + LINK.format(rtt=20))
    rates = PipelineRates(swarm, MODEL, LOAD, traffic(1.0), 3.0)
    count = len(rates.rows)
    for groups in _exact_splits(rates, 3):
        number = len(groups)
        best = 0.0
        for colours in itertools.product(range(number + 1), repeat=count):  # the last colour: a spare
            sets = [
                _members(rates.rows, sum(1 << k for k in range(count) if colours[k] == colour))
                for colour in range(number)
            ]
            values = [rates.of(each) if each else 0.0 for each in sets]
            if min(values) > 0:
                best = max(best, sum(values))
        assert sum(rates.of(each) for each in groups) == pytest.approx(best)


def test_roles_name_every_machine_and_what_is_lost_without_it() -> None:
    swarm = swarm_of("a", "b", "c", vram=12.0)  # the third only helps
    found = plan_serving(swarm, MODEL, LOAD, traffic(100.0), most_replicas=1)
    roles = {each.node: each for each in found.roles}
    assert set(roles) == {"a", "b", "c"}
    assert all(each.replica == 1 for each in roles.values() if each.replica is not None)
    for each in found.roles:
        if each.replica is not None:
            assert each.worth is not None
            assert 0 <= each.worth <= 1


def test_more_than_eight_machines_are_split_into_replicas_of_about_the_same_memory() -> None:
    names = [f"n{k}" for k in range(10)]
    found = plan_serving(swarm_of(*names, vram=12.0), MODEL, LOAD, traffic(1e3), most_replicas=5)
    assert not found.exact
    assert len(found.serving.replicas) > 1
    used = [stage.node for each in found.serving.replicas for stage in each.placement]
    several = {node for node in used if used.count(node) > 1}
    assert several == {each.node for each in found.serving.shared}


def test_a_model_that_no_machines_hold_does_not_fit() -> None:
    with pytest.raises(DoesNotFit):
        plan_serving(swarm_of("a", "b", vram=2.0), MODEL, LOAD, traffic(1.0))
