"""Plans: both ends agree, a restart changes nothing, and no probe is scheduled beyond its limits."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from collector_fixtures import FOCUS, LAYER, joined
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_collector.members.membership import Member, Membership
from swarm_collector.members.presence import presence_of, restored
from swarm_collector.scheduling.measurement_plan import (
    AT_ONCE,
    MAX_MEASURED_BY,
    NEAREST,
    OFTEN,
    OWN_PACKETS_PER_S,
    RANDOM,
    FocusError,
    Scheduler,
    choose,
    compute_task,
)
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import Plan, decode_from_collector

SECRET = bytes(range(32))


def members(count: int) -> list[Member]:
    membership = Membership()
    return [joined(membership, f"node-{i}", i, observed=f"8.8.{i // 250}.{i % 250 + 1}") for i in range(count)]


def nobody_knows(src: str) -> dict[str, float]:
    return {}


def planned(count: int, *, watched: bool = True, secret: bytes = SECRET) -> dict[str, Plan]:
    return made(Scheduler(secret, FOCUS), members(count), 1, watched=watched)


def made(scheduler: Scheduler, here: list[Member], revision: int, *, watched: bool = True) -> dict[str, Plan]:
    plans = scheduler.plans(here, nobody_knows, watched=watched, revision=revision)
    return {draft.member.node_id: draft.plan() for draft in plans if draft is not None}


def test_a_large_swarm_is_planned_in_steps_that_let_others_run():
    """At ten thousand members the choice alone takes more than a second."""
    here = members(300)
    steps, longest = 0, 0
    since = 0
    for draft in Scheduler(SECRET, FOCUS).plans(here, nobody_knows, watched=True, revision=1):
        since = 0 if draft is None else since + 1
        steps += draft is None
        longest = max(longest, since)
    assert longest <= AT_ONCE
    assert steps >= 2 * (len(here) // AT_ONCE)  # while choosing, and while making the plans


@pytest.mark.parametrize("count", [2, 7, 50, 120])
def test_both_ends_of_a_pair_hold_the_same_key_and_each_others_session_ids(count):
    plans = planned(count)
    for me, plan in plans.items():
        for peer in plan.peers:
            (mine,) = [p for p in plans[peer.node_id].peers if p.node_id == me]
            assert (mine.stamp_key, mine.ssid_in, mine.ssid_out) == (peer.stamp_key, peer.ssid_out, peer.ssid_in)


@pytest.mark.parametrize("feature", ["follow_up", "trains"])
def test_only_of_members_that_say_so_are_follow_ups_requested_and_trains_collected(feature):
    """A probe of an older version does not read packets that are longer than those it knows."""
    newer, older, asking = members(3)
    for member, known in ((newer, True), (older, False)):
        member.hello = msgspec.structs.replace(member.hello, **{feature: known})
    plans = made(Scheduler(SECRET, FOCUS), [newer, older, asking], 1)
    reported = {peer.node_id: getattr(peer, feature) for peer in plans[asking.node_id].peers}
    assert reported == {newer.node_id: True, older.node_id: False}
    assert getattr(restored(presence_of(newer), None)[0], feature)


@pytest.mark.parametrize("count", [50, 120])
def test_no_session_id_is_there_twice_on_one_socket(count):
    for plan in planned(count).values():
        ids = [ssid for peer in plan.peers for ssid in (peer.ssid_in, peer.ssid_out)]
        assert len(ids) == len(set(ids))


def test_session_ids_stay_while_others_leave_and_are_given_up_with_a_member():
    everybody = members(60)
    scheduler = Scheduler(SECRET, FOCUS)
    before = made(scheduler, everybody, 1)
    without = made(scheduler, everybody[10:], 2)
    for me, plan in without.items():
        known = {peer.node_id: peer for peer in before[me].peers}
        kept = [(peer, known[peer.node_id]) for peer in plan.peers if peer.node_id in known]
        assert kept
        assert all((now.ssid_in, now.ssid_out) == (then.ssid_in, then.ssid_out) for now, then in kept)
        ids = {ssid for peer in before[me].peers for ssid in (peer.ssid_in, peer.ssid_out)}
        assert len(scheduler._used[me]) <= len(ids) + 2 * len(plan.peers)
    assert not scheduler._used.keys() & {member.node_id for member in everybody[:10]}
    assert made(scheduler, everybody, 3).keys() == before.keys()
    made(scheduler, everybody[:1], 4)
    assert not scheduler._ssids
    assert scheduler._numbers.keys() <= {everybody[0].node_id}


def test_keys_differ_from_pair_to_pair():
    plan = next(iter(planned(20).values()))
    assert len({peer.stamp_key for peer in plan.peers}) == 19


def test_a_restarted_collector_makes_the_same_plans():
    assert planned(12) == planned(12)


def test_another_secret_makes_other_keys():
    a, b = next(iter(planned(2).values())), next(iter(planned(2, secret=bytes(32)).values()))
    assert a.peers[0].stamp_key != b.peers[0].stamp_key


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 9, 33, 50, 51, 300])
def test_no_probe_sends_more_than_50_packets_a_second_of_its_own_and_of_answers(count, watched):
    plans = planned(count, watched=watched)
    for plan in plans.values():
        own = sum(peer.measure for peer in plan.peers) * 1000 / plan.stamp_interval_ms
        answered = sum(
            1000 / plans[peer.node_id].stamp_interval_ms
            for peer in plan.peers
            if any(p.measure and p.node_id != peer.node_id for p in plans[peer.node_id].peers)
        )
        assert own + answered <= 50


def test_a_window_holds_enough_packets_for_quantiles():
    assert all(plan.window_ms >= 16 * plan.stamp_interval_ms for plan in planned(40).values())


def test_a_plan_that_says_the_same_keeps_its_revision():
    scheduler, here = Scheduler(SECRET, FOCUS), members(3)
    first = made(scheduler, here, 1)
    again = made(scheduler, here, 2)
    fewer = made(scheduler, here[:2], 3)
    assert again == first
    assert {plan.revision for plan in fewer.values()} == {3}


def test_a_new_focus_is_a_new_compute_task_and_the_same_focus_the_same():
    other = msgspec.structs.replace(FOCUS, dtype="int8")
    assert compute_task(FOCUS) == compute_task(msgspec.structs.replace(FOCUS))
    assert compute_task(FOCUS).task_id != compute_task(other).task_id


@pytest.mark.parametrize(
    "changes",
    [{"hidden": 0}, {"hidden": -1}, {"hidden": 1 << 20}, {"experts": 1 << 30}, {"heads": 10**9}, {"head_dim": 1 << 17}],
)
def test_a_layer_no_probe_should_build_is_refused_and_the_old_focus_stays(changes):
    scheduler = Scheduler(SECRET, FOCUS)
    with pytest.raises(FocusError):
        scheduler.set_focus(msgspec.structs.replace(FOCUS, layer=msgspec.structs.replace(LAYER, **changes)))
    assert scheduler.focus == FOCUS


def test_in_a_large_swarm_each_measures_its_nearest_and_as_many_at_random():
    here = members(200)
    rows = {member.node_id: row for row, member in enumerate(here)}

    def on_a_line(src: str) -> dict[str, float]:
        return {dst: float(abs(rows[src] - row)) for dst, row in rows.items()}

    chosen = choose(here, on_a_line, salt=1)
    for member in here[20:180]:
        distances = sorted(on_a_line(member.node_id)[peer] for peer in chosen[member.node_id])
        assert len(distances) == NEAREST + RANDOM
        assert distances[NEAREST - 1] <= NEAREST
        assert distances[-1] > NEAREST


def test_most_of_what_a_large_swarm_measures_stays_when_a_node_joins():
    here = members(101)
    before, after = choose(here[:100], nobody_knows, salt=1), choose(here, nobody_knows, salt=1)
    kept = np.mean([len(set(before[one]) & set(after[one])) / len(before[one]) for one in before])
    assert kept > 0.9


def test_no_node_is_measured_by_all_others():
    here = members(200)
    near_one = {member.node_id: 50.0 for member in here} | {here[0].node_id: 0.1}
    chosen = choose(here, lambda src: near_one, salt=1)
    assert sum(here[0].node_id in peers for peers in chosen.values()) <= MAX_MEASURED_BY


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 90))
def test_every_plan_passes_the_probes_own_gate(count):
    for plan in planned(count).values():
        assert decode_from_collector(encode(plan)) == plan


def test_links_that_the_best_placement_hangs_on_are_measured_by_both_ends_and_more_often():
    here = members(120)
    scheduler = Scheduler(SECRET, FOCUS)
    before = made(scheduler, here, 1)
    chain = [member.node_id for member in here[:4]]
    assert scheduler.want({node: tuple(peer for peer in chain if peer != node) for node in chain})
    assert not scheduler.want({node: tuple(peer for peer in reversed(chain) if peer != node) for node in chain})
    after = made(scheduler, here, 2)
    for node in chain:
        often = {peer.node_id for peer in after[node].peers if peer.measure and peer.often == OFTEN}
        assert often == set(chain) - {node}
        measured = [peer for peer in after[node].peers if peer.measure]
        assert len(measured) == NEAREST + RANDOM
        per_s = sum(peer.often for peer in measured) * 1000 / after[node].stamp_interval_ms
        assert per_s <= OWN_PACKETS_PER_S * 1.01
    bystander = here[100].node_id
    assert all(peer.often == 1 for peer in after[bystander].peers)
    assert after[bystander].stamp_interval_ms == before[bystander].stamp_interval_ms


def test_in_a_small_swarm_every_pair_is_measured_alike():
    here = members(5)
    scheduler = Scheduler(SECRET, FOCUS)
    scheduler.want({here[0].node_id: (here[1].node_id,)})
    assert all(peer.often == 1 for plan in made(scheduler, here, 1).values() for peer in plan.peers)


def test_each_node_of_the_best_placement_learns_how_long_a_token_is_elsewhere():
    here = members(3)
    scheduler = Scheduler(SECRET, FOCUS)
    assert all(plan.away_ms is None for plan in made(scheduler, here, 1).values())
    node, other = here[0].node_id, here[1].node_id
    assert scheduler.pause({node: 80.0})
    plans = made(scheduler, here, 2)
    assert (plans[node].away_ms, plans[other].away_ms) == (80.0, None)
    assert (plans[node].revision, plans[other].revision) == (2, 1)
    assert not scheduler.pause({node: 90.0})  # noise of the prediction: not worth telling
    assert scheduler.pause({node: 120.0})
    assert made(scheduler, here, 3)[node].away_ms == 120.0
