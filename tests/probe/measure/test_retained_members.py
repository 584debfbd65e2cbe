"""A probe keeps measuring its peers until it learns that they left, or until all have had time to reconnect."""

from __future__ import annotations

import msgspec
from test_daemon import PEER, plan

from swarm_probe.measure.retained_members import ANSWERED_NS, MAX_PEERS, MEASURED_NS, RetainedMembers
from swarm_protocol.messages.probe_messages import Peer, Plan

A, B, C = (
    msgspec.structs.replace(PEER, node_id=letter * 16, name=letter, ssid_out=n, ssid_in=10 + n)
    for n, letter in enumerate("abc", start=1)
)


def carried(*peers: Peer) -> RetainedMembers:
    """At time 0 a session has begun again, after one with these peers."""
    made = RetainedMembers()
    made.joined(-(10**12))
    made.plan(plan(*peers), -(10**12))
    made.joined(0)
    return made


def ids(given: Plan | None) -> list[tuple[str, bool]]:
    assert given is not None
    return [(peer.name, peer.measure) for peer in given.peers]


def test_an_empty_first_plan_ends_no_measurement() -> None:
    made = carried(A, B)
    assert ids(made.plan(plan(), 1)) == [("a", True), ("b", True)]
    assert ids(made.plan(plan(B), 2)) == [("b", True), ("a", True)]


def test_a_member_that_left_is_dropped_at_once() -> None:
    made = carried(A, B)
    assert ids(made.plan(plan(B, left=(A.node_id,)), 1)) == [("b", True)]


def test_after_two_minutes_they_are_only_answered_and_later_not_even_that() -> None:
    made = carried(A, B)
    made.plan(plan(B), 1)
    assert made.due(MEASURED_NS - 1) is None
    assert ids(made.due(MEASURED_NS)) == [("b", True), ("a", False)]
    assert made.due(MEASURED_NS + 1) is None
    assert ids(made.due(ANSWERED_NS)) == [("b", True)]
    assert made.due(ANSWERED_NS + 1) is None


def test_within_a_session_a_plan_counts_as_complete() -> None:
    made = carried()
    made.plan(plan(A, B), 1)
    assert ids(made.plan(plan(A), 2)) == [("a", True)]


def test_consecutive_restarts_forget_no_member() -> None:
    made = carried(A, B)
    for session in range(5):
        made.joined(session * 10)
        assert {name for name, _ in ids(made.plan(plan(B), session * 10 + 1))} == {"a", "b"}


def test_numbers_given_to_another_pair_meanwhile_are_not_used_twice_and_there_is_an_end() -> None:
    made = carried(A, B)
    taken = msgspec.structs.replace(C, ssid_in=A.ssid_in)
    assert ids(made.plan(plan(taken), 1)) == [("c", True), ("b", True)]
    many = [
        msgspec.structs.replace(C, node_id=f"{n:016x}", ssid_out=100 + n, ssid_in=100 + n) for n in range(MAX_PEERS)
    ]
    full = carried(A, B).plan(plan(*many), 1)
    assert len(full.peers) == MAX_PEERS
