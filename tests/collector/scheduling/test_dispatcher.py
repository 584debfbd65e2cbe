"""The dispatcher: one round of plans for a burst of joins, leases for the right members, and no work without
viewers."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
import pytest
from collector_fixtures import FOCUS, LAYER, joined

from swarm_collector.members.membership import Membership
from swarm_collector.scheduling.dispatcher import (
    FOCUS_EVERY_NS,
    REVIEW_NS,
    UNWATCHED_AFTER_NS,
    Dispatcher,
    first_lease_ns,
)
from swarm_collector.scheduling.measurement_plan import FocusError, Scheduler
from swarm_collector.scheduling.transfer_leases import GRACE_NS, LEASE_NS, Leases
from swarm_protocol.messages.probe_messages import LeaseDone, Plan, UplinkLease
from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.units import NS_PER_S

START_NS = 1_800_000_000 * NS_PER_S


def dispatcher(names: int, *, watched_ns: int = UNWATCHED_AFTER_NS) -> Dispatcher:
    membership = Membership()
    for i in range(names):
        joined(membership, f"n{i}", session=i, observed=f"8.8.8.{i + 1}")
    made = Dispatcher(
        membership,
        Scheduler(bytes(32), FOCUS),
        Leases(random.Random(3), first_id=0),
        rtt_from=lambda node_id: {},
        watched_until_ns=START_NS + watched_ns,
    )
    made.changed(START_NS)
    return made


def plans(out: Iterable) -> dict[int, Plan]:
    return {session: message for session, message in filter(None, out) if isinstance(message, Plan)}


def leases(out: Iterable) -> dict[int, UplinkLease]:
    return {session: message for session, message in filter(None, out) if isinstance(message, UplinkLease)}


def test_everybody_gets_a_plan_once():
    made = dispatcher(3)
    assert set(plans(made.due(START_NS + NS_PER_S))) == {0, 1, 2}
    assert plans(made.due(START_NS + 2 * NS_PER_S)) == {}


def test_a_burst_of_joins_is_one_round_of_plans():
    made = dispatcher(2)
    list(made.due(START_NS + NS_PER_S))
    at_ns = START_NS + 5 * NS_PER_S
    for i in range(2, 12):
        joined(made.membership, f"n{i}", session=i, observed=f"8.8.8.{i + 1}")
        made.changed(at_ns)
        assert plans(made.due(at_ns)) == {}
    sent = plans(made.due(at_ns + NS_PER_S))
    assert {len(plan.peers) for plan in sent.values()} == {11}
    assert len(sent) == 12


def test_a_new_session_of_a_node_gets_the_plan_again():
    made = dispatcher(2)
    list(made.due(START_NS + NS_PER_S))
    joined(made.membership, "n1", session=9, observed="8.8.8.2")
    made.gone(1)
    made.changed(START_NS + 2 * NS_PER_S)
    assert set(plans(made.due(START_NS + 4 * NS_PER_S))) == {9}


def test_members_of_a_swarm_that_has_grown_are_told_to_send_fewer_heartbeats_with_their_plans():
    """Though nothing else in their plans has changed. Those who joined late know already."""
    made = dispatcher(3)
    assert {plan.heartbeat_ms for plan in plans(made.due(START_NS + NS_PER_S)).values()} == {None}
    made.membership.restore((f"{number:032x}", f"m{number}") for number in range(4_000))
    again_ns = START_NS + NS_PER_S + REVIEW_NS
    told = plans(made.due(again_ns))
    assert {session: round(plan.heartbeat_ms or 0) for session, plan in told.items()} == dict.fromkeys(range(3), 20_015)
    assert plans(made.due(again_ns + REVIEW_NS)) == {}


def test_revisions_rise_over_restarts():
    first = plans(dispatcher(2).due(START_NS + NS_PER_S))[0]
    later = dispatcher(2)
    assert plans(later.due(START_NS + 3600 * NS_PER_S))[0].revision > first.revision


def test_a_lease_reaches_its_sender_and_frees_both_ends_when_done():
    made = dispatcher(2)
    list(made.due(START_NS + NS_PER_S))
    moments = (START_NS + second * NS_PER_S for second in range(2, 600))
    session, lease = next(granted for now_ns in moments for granted in leases(made.due(now_ns)).items())
    sender = made.membership.of_session(session)
    assert sender is not None
    assert lease.peer != sender.node_id
    assert len(made.leases.active) == 1
    assert made.lease_done(LeaseDone(lease_id=lease.lease_id, ok=True), sender.node_id, 0)
    assert made.leases.active == ()


def test_round_trips_with_a_node_in_a_transfer_are_marked_and_no_others():
    """The third party's probe knows nothing of it, and behind a home's queue it reads hundreds of milliseconds."""
    made = dispatcher(3)
    list(made.due(START_NS + NS_PER_S))
    moments = (START_NS + second * NS_PER_S for second in range(2, 600))
    session, lease = next(granted for now_ns in moments for granted in leases(made.due(now_ns)).items())
    now_ns = made.leases.active[0].expires_ns - LEASE_NS + 5 * NS_PER_S
    sender = made.membership.of_session(session)
    assert sender is not None
    (other,) = {member.node_id for member in made.membership.connected()} - {lease.peer, sender.node_id}
    wall_ns = 10**18

    def marked(peer: str, *, late_s: int = 0) -> bool:
        window = LinkSample(at_ns=wall_ns - late_s * NS_PER_S, peer=peer, path="direct", sent=16, lost=0)
        (seen,) = made.beside_transfers([window], wall_ns, now_ns)
        assert isinstance(seen, LinkSample)
        return seen.loaded

    assert marked(lease.peer)
    assert marked(sender.node_id)
    assert not marked(other)
    assert not marked(lease.peer, late_s=6)  # a window of before
    assert not marked(lease.peer, late_s=60)  # out of a spool


def test_a_node_without_a_tcp_port_is_never_a_receiver():
    made = dispatcher(0)
    joined(made.membership, "open", session=0, observed="8.8.8.1")
    joined(made.membership, "closed", session=1, observed="8.8.8.2", tcp_port=0)
    made.changed(START_NS)
    list(made.due(START_NS + NS_PER_S))
    receivers = set()
    for second in range(2, 7200, 5):
        for session, lease in leases(made.due(START_NS + second * NS_PER_S)).items():
            sender = made.membership.of_session(session)
            assert sender is not None
            receivers.add(lease.peer)
            made.lease_done(LeaseDone(lease_id=lease.lease_id, ok=True), sender.node_id, 0)
    assert receivers == {made.membership.of_session(0).node_id}


def test_measuring_gets_sparse_without_viewers_and_dense_again_with_one():
    made = dispatcher(9, watched_ns=30 * NS_PER_S)
    dense = plans(made.due(START_NS + NS_PER_S))[0]
    later_ns = START_NS + NS_PER_S + REVIEW_NS
    sparse = plans(made.due(later_ns))[0]
    assert sparse.stamp_interval_ms >= 5 * dense.stamp_interval_ms
    made.watched(later_ns + NS_PER_S)
    again = plans(made.due(later_ns + 3 * NS_PER_S))[0]
    assert msgspec.structs.replace(again, revision=0) == msgspec.structs.replace(dense, revision=0)


def test_a_focus_changes_every_plan_and_cannot_be_changed_back_and_forth():
    made = dispatcher(2)
    list(made.due(START_NS + NS_PER_S))
    now_ns = START_NS + 10 * NS_PER_S
    other = msgspec.structs.replace(FOCUS, model="bloom-176b", hop_bytes=28_672)
    assert made.focus(other, now_ns) is None
    assert "try again" in (made.focus(FOCUS, now_ns + FOCUS_EVERY_NS - 1) or "")
    sent = plans(made.due(now_ns + NS_PER_S))
    assert {(plan.hop_bytes, plan.compute.model) for plan in sent.values() if plan.compute} == {(28_672, "bloom-176b")}
    assert len(sent) == 2


@pytest.mark.parametrize(("operator", "most"), [(True, 40), (False, 9)])
def test_an_hour_of_changing_the_model_gives_a_bounded_number_of_tasks(operator: bool, most: int):
    """Once a second, as a hostile viewer did: 20 tasks for everybody in 40 s."""
    made = dispatcher(2)
    taken = 0
    for second in range(600):
        other = msgspec.structs.replace(FOCUS, model=f"model-{second}")
        taken += made.focus(other, START_NS + (10 + second) * NS_PER_S, operator=operator) is None
    assert 3 <= taken <= most


def test_a_focus_on_an_impossible_model_changes_nothing():
    made = dispatcher(2)
    bad = msgspec.structs.replace(FOCUS, layer=msgspec.structs.replace(LAYER, hidden=1 << 30))
    with pytest.raises(FocusError, match="not a decoder layer"):
        made.focus(bad, START_NS + 10 * NS_PER_S)
    assert made.scheduler.focus == FOCUS


def test_a_restarted_collector_waits_out_what_it_may_have_leased_before():
    assert first_lease_ns(START_NS, fresh=True) == START_NS
    assert first_lease_ns(START_NS, fresh=False) == START_NS + LEASE_NS + GRACE_NS
