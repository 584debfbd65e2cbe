"""Membership: a node is its key; names are valid, unique and permanent; addresses stay within policy."""

from __future__ import annotations

import pytest
from collector_fixtures import hello, id_of, joined
from hypothesis import given
from hypothesis import strategies as st

from swarm_collector.members.addresses import MemberAddresses, access_link_of, hosts_for, literal
from swarm_collector.members.membership import (
    HEARTBEAT_NS,
    LOST_BEATS,
    STAY_IN_PLANS_NS,
    Admitted,
    Membership,
    Rejected,
    heartbeat_ns,
)
from swarm_protocol.text import is_name

LOST_NS = LOST_BEATS * HEARTBEAT_NS


def admit(membership: Membership, *args: object, **changes: object) -> Admitted | Rejected:
    name, session = args
    return membership.admit(session, hello(name, **changes), "203.0.113.7", "198.51.100.1", now_ns=1)


@pytest.mark.parametrize("given_token", ["", "wrong", "Secret", "secret "])
def test_a_wrong_token_is_refused_for_good(given_token):
    outcome = admit(Membership(token="secret"), "kiln", 1, token=given_token)
    assert outcome == Rejected(
        "wrong or missing token; ask the swarm's operator for an invite, or for the token and give it with --token",
        final=True,
    )


def test_the_right_token_is_admitted():
    assert isinstance(admit(Membership(token="sécret"), "kiln", 1, token="sécret"), Admitted)


def test_another_protocol_is_told_who_must_update():
    assert admit(Membership(), "kiln", 1, protocol=9) == Rejected(
        "the probe speaks protocol 9, the collector 2; update the collector", final=True
    )


@given(names=st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=12))
def test_every_name_ever_given_is_clean_and_unique(names):
    membership = Membership()
    for session, name in enumerate(names):
        joined(membership, name, session, key=f"key {session}")
    given_names = [member.name for member in membership.connected()]
    assert all(is_name(name) for name in given_names)
    assert len(set(given_names)) == len(names)


def test_twins_are_numbered_and_keep_their_numbers_over_restarts():
    membership = Membership()
    assert [joined(membership, "kiln", i, key=f"key {i}").name for i in range(3)] == ["kiln", "kiln-2", "kiln-3"]
    known = [(member.node_id, member.name) for member in membership.connected()]
    restarted = Membership()
    restarted.restore(known)
    assert [joined(restarted, "kiln", i, key=f"key {i}").name for i in (2, 1, 0)] == ["kiln-3", "kiln-2", "kiln"]


def test_a_long_name_is_numbered_within_32_characters():
    membership = Membership()
    joined(membership, "x" * 300, 1, key="a")
    assert joined(membership, "x" * 300, 2, key="b").name == "x" * 30 + "-2"


def test_a_node_that_asks_for_another_name_gets_it_and_frees_the_old_one():
    membership = Membership()
    joined(membership, "kiln", 1, key="a")
    outcome = admit(membership, "oven", 2, key="a")
    assert isinstance(outcome, Admitted)
    assert (outcome.member.name, outcome.events[0].kind, outcome.events[0].detail) == (
        "oven",
        "name_changed",
        "was kiln",
    )
    assert joined(membership, "kiln", 3, key="b").name == "kiln"


def test_the_second_session_of_a_node_replaces_the_first_and_the_firsts_end_changes_nothing():
    membership = Membership()
    joined(membership, "kiln", 1)
    outcome = admit(membership, "kiln", 2)
    assert isinstance(outcome, Admitted)
    assert outcome.replaced == 1
    assert membership.gone(1, 2, goodbye="restarting") is None
    assert [member.session for member in membership.connected()] == [2]


def test_a_silent_node_is_lost_once_and_back_when_it_returns():
    membership = Membership()
    joined(membership, "kiln", 1)
    assert membership.poll(LOST_NS) == []
    assert [event.kind for event in membership.poll(LOST_NS + 1)] == ["lost"]
    assert membership.poll(LOST_NS + 2) == []
    membership.gone(1, LOST_NS + 3, goodbye=None)
    outcome = admit(membership, "kiln", 2)
    assert isinstance(outcome, Admitted)
    assert [event.kind for event in outcome.events] == ["back"]


def test_a_member_that_leaves_in_order_is_dropped_at_once_and_a_lost_one_after_a_while():
    membership = Membership()
    joined(membership, "left", 1)
    joined(membership, "cut", 2)
    event = membership.gone(1, 10, goodbye="\x1b[31mstopping")
    assert event is not None
    assert (event.kind, event.detail) == ("left", "?[31mstopping")
    membership.gone(2, 10, goodbye=None)
    assert [member.name for member in membership.in_plans(11)] == ["cut"]
    assert membership.in_plans(10 + STAY_IN_PLANS_NS) == []


def test_a_full_swarm_refuses_the_next_and_still_takes_those_it_knows():
    membership = Membership(max_members=1)
    joined(membership, "kiln", 1)
    refused = admit(membership, "oven", 2)
    assert isinstance(refused, Rejected)
    assert not refused.final
    assert isinstance(admit(membership, "kiln", 3), Admitted)


def test_the_id_is_the_keys_and_not_the_names():
    membership = Membership()
    assert joined(membership, "kiln", 1, key="secret of kiln").node_id == id_of("secret of kiln")


# ---------------------------------------------------------------- addresses

HOME = MemberAddresses("203.0.113.7", ("192.168.1.5", "127.0.0.1", "fe80::1"), "198.51.100.1")
HOUSEMATE = MemberAddresses("203.0.113.7", ("192.168.1.6",), "198.51.100.1")
AWAY = MemberAddresses("8.8.8.8", ("10.0.0.9",), "198.51.100.1")
LOCAL = MemberAddresses("127.0.0.1", ("198.51.100.1", "10.0.0.2"), "127.0.0.1")
LOCAL_TOO = MemberAddresses("127.0.0.1", ("10.0.0.2",), "127.0.0.1")


CABLED = MemberAddresses("203.0.113.7", ("169.254.7.2",), "198.51.100.1")  # its owner said --lan
BY_CABLE = MemberAddresses("169.254.7.2", ("169.254.7.2",), "169.254.7.1")
BY_CABLE_TOO = MemberAddresses("fe80::3%eth1", ("169.254.7.3", "fe80::3"), "fe80::1%eth1")
HERE = MemberAddresses("127.0.0.1", (), "127.0.0.1")


@pytest.mark.parametrize(
    ("of", "to", "hosts"),
    [
        (HOME, AWAY, ("203.0.113.7",)),
        (HOME, HOUSEMATE, ("192.168.1.5", "203.0.113.7")),
        (AWAY, HOME, ("8.8.8.8",)),
        (LOCAL, LOCAL_TOO, ("127.0.0.1", "198.51.100.1", "10.0.0.2")),
        (LOCAL, AWAY, ("198.51.100.1",)),
        (AWAY, LOCAL, ("8.8.8.8",)),
        (HOME, CABLED, ("192.168.1.5", "203.0.113.7", "fe80::1")),
        (CABLED, HOME, ("203.0.113.7", "169.254.7.2")),
        (CABLED, HOUSEMATE, ("203.0.113.7",)),
        (CABLED, AWAY, ("203.0.113.7",)),
        (BY_CABLE, BY_CABLE_TOO, ("169.254.7.2",)),
        (LOCAL, BY_CABLE, ("169.254.7.1", "198.51.100.1", "10.0.0.2")),
        (HERE, BY_CABLE, ("169.254.7.1",)),
        (BY_CABLE, AWAY, ("169.254.7.2",)),
    ],
)
def test_each_pair_is_offered_what_can_lead_there(of, to, hosts):
    assert hosts_for(of, to) == hosts


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "example.com", "0.0.0.0", "224.0.0.1", "2001:db8::1%eth0", "ff02::1", "::", "1.2.3", "a" * 64],
)
def test_names_and_addresses_no_peer_can_have_are_never_passed_on(text):
    assert literal(text) is None
    assert hosts_for(MemberAddresses("203.0.113.7", (text,), ""), HOUSEMATE) == ("203.0.113.7",)


@given(own=st.lists(st.one_of(st.ip_addresses().map(str), st.text(min_size=2, max_size=64)), max_size=16))
def test_no_remote_member_is_ever_offered_loopback(own):
    for host in hosts_for(MemberAddresses("203.0.113.7", tuple(own), ""), AWAY):
        address = literal(host)
        assert address is not None
        assert not address.is_loopback


def test_one_household_is_one_line():
    assert access_link_of(MemberAddresses("2001:db8::1", (), "")) == access_link_of(
        MemberAddresses("2001:db8::2", (), "")
    )
    assert access_link_of(HOME) == access_link_of(HOUSEMATE) != access_link_of(AWAY)
    assert access_link_of(MemberAddresses("::ffff:203.0.113.7", (), "")) == access_link_of(HOME)


def test_a_large_swarm_is_asked_for_fewer_heartbeats_and_given_longer_before_it_is_lost():
    assert [heartbeat_ns(members) // 10**9 for members in (1, 1_000, 2_000, 20_000)] == [5, 5, 10, 30]
    membership = Membership()
    member = joined(membership, "kiln", 1)
    member.beat_ns = 4 * HEARTBEAT_NS
    assert membership.poll(LOST_NS + 1) == []
    assert [event.kind for event in membership.poll(4 * LOST_NS + 1)] == ["lost"]


def test_a_broken_line_is_called_lost_as_fast_in_a_large_swarm():
    membership = Membership()
    joined(membership, "kiln", 1).beat_ns = 4 * HEARTBEAT_NS
    membership.gone(1, 2, goodbye=None)
    assert [event.kind for event in membership.poll(LOST_NS + 1)] == ["lost"]


def test_a_member_is_told_to_send_fewer_heartbeats_when_the_swarm_has_doubled():
    membership = Membership()
    member = joined(membership, "kiln", 1)
    membership.restore((f"{number:032x}", f"n{number}") for number in range(1_800))
    assert not membership.fewer_heartbeats(member)
    membership.restore((f"{number:032x}", f"n{number}") for number in range(4_000))
    assert membership.fewer_heartbeats(member)
    assert member.beat_ns == 4_001 * HEARTBEAT_NS // 1_000
    assert not membership.fewer_heartbeats(member)


def test_a_collector_that_has_not_told_a_member_to_send_fewer_heartbeats_does_not_call_it_lost():
    """Another one may have: the one that plans."""
    membership = Membership()
    member = joined(membership, "kiln", 1)
    membership.restore((f"{number:032x}", f"n{number}") for number in range(4_000))
    assert member.beat_ns == HEARTBEAT_NS
    assert membership.poll(LOST_NS + 1) == []
    assert [event.kind for event in membership.poll(4 * LOST_NS + LOST_NS)] == ["lost"]
