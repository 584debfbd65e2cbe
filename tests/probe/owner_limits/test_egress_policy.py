"""Which addresses a probe sends to: rules that no collector can change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.owner_limits.egress_policy import (
    ALL_TRIES,
    ALL_TRIES_PER_S,
    CONSENT_NS,
    DIALS,
    LINK_LOCAL,
    TRIES,
    TRIES_PER_S,
    EgressPolicy,
    Scope,
    links_allowed,
    scope_of,
)
from swarm_probe.sockets import target
from swarm_protocol.units import NS_PER_S

PUBLIC = "8.8.4.4"


@pytest.mark.parametrize(
    ("host", "port", "internet", "lan", "this_host"),
    [
        (PUBLIC, 9470, True, True, True),
        ("2606:4700::1", 9470, True, True, True),
        (PUBLIC, 53, False, False, False),
        (PUBLIC, 0, False, False, False),
        (PUBLIC, 1023, False, False, False),
        (PUBLIC, 1024, True, True, True),
        ("127.0.0.1", 1023, False, False, False),
        ("fe80::1%1", 9470, False, False, False),
        ("2606:4700::1%1", 9470, False, False, False),
        ("::", 9470, False, False, False),
        ("", 9470, False, False, False),
        ("192.168.1.7", 9470, False, True, True),
        ("10.0.0.1", 9470, False, True, True),
        ("100.64.0.1", 9470, False, True, True),
        ("172.31.255.1", 9470, False, True, True),
        ("fd00::1", 9470, False, True, True),
        ("203.0.113.9", 9470, False, True, True),
        ("127.0.0.1", 9470, False, False, True),
        ("::1", 9470, False, False, True),
        ("::ffff:127.0.0.1", 9470, False, False, True),
        ("::ffff:192.168.1.7", 9470, False, True, True),
        ("224.0.0.1", 9470, False, False, False),
        ("255.255.255.255", 9470, False, False, False),
        ("0.0.0.0", 9470, False, False, False),
        ("169.254.169.254", 9470, False, False, False),
        ("fe80::1", 9470, False, False, False),
        ("ff02::1", 9470, False, False, False),
        ("240.0.0.1", 9470, False, False, False),
        ("example.org", 9470, False, False, False),
    ],
)
def test_which_kinds_of_address_are_sent_to(host, port, internet, lan, this_host):
    found = [EgressPolicy(scope).why_not(host, port) is None for scope in Scope]
    assert found == [internet, lan, this_host]


@pytest.mark.parametrize(
    ("collector", "lan", "scope"),
    [
        ("127.0.0.1", False, Scope.HOST),
        ("192.168.1.2", False, Scope.LAN),
        ("::1", False, Scope.HOST),
        ("::ffff:127.0.0.1", False, Scope.HOST),
        ("::ffff:10.0.0.1", False, Scope.LAN),
        ("swarm.example", False, Scope.INTERNET),
        ("swarm.example", True, Scope.LAN),
        (PUBLIC, False, Scope.INTERNET),
        (PUBLIC, True, Scope.LAN),
        ("", False, Scope.INTERNET),  # through a proxy: its address says nothing
    ],
)
def test_the_address_of_the_collector_says_what_may_be_measured(collector, lan, scope):
    assert scope_of(collector, lan=lan) is scope


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("169.254.7.2", LINK_LOCAL),
        ("fe80::1", LINK_LOCAL),
        ("fe80::1%lo", LINK_LOCAL),
        ("169.254.169.254", "it may be a cloud's metadata service"),
        ("169.254.170.2", "it may be a cloud's metadata service"),
        ("fd00:ec2::254", "it may be a cloud's metadata service"),
        ("169.254.255.255", "it is not the address of a single machine"),
        ("169.254.0.1", "it is not the address of a single machine"),
    ],
)
def test_a_direct_cable_is_used_where_the_owner_wants_it_and_a_metadata_service_never(host, refused):
    assert EgressPolicy(Scope.HOST).why_not(host, 9470) == refused
    allowed = EgressPolicy(Scope.INTERNET, links=True).why_not(host, 9470)
    assert allowed == (None if refused == LINK_LOCAL else refused)


@pytest.mark.parametrize(
    ("collector", "chosen", "allowed"),
    [
        ("169.254.7.1", False, True),
        ("fe80::1%eth1", False, True),
        ("192.168.1.2", False, False),
        ("127.0.0.1", False, False),
        ("", False, False),
        (PUBLIC, True, True),
    ],
)
def test_a_collector_at_the_other_end_of_a_cable_is_reason_enough(collector, chosen, allowed):
    assert links_allowed(collector, chosen=chosen) is allowed


def test_an_address_that_never_answers_is_soon_left_alone():
    allowed, to = EgressPolicy(Scope.INTERNET), target(PUBLIC, 9470)
    sent = sum(allowed.may_send(to, now_ns) for now_ns in range(0, 600 * NS_PER_S, NS_PER_S // 10))
    assert sent <= TRIES + 600 * TRIES_PER_S
    assert sum(allowed.may_dial(to, 600 * NS_PER_S) for _ in range(100)) == DIALS


def test_a_thousand_victims_together_get_no_more_than_a_few_packets_a_second():
    allowed = EgressPolicy(Scope.INTERNET)
    victims = [target(f"8.8.{i // 250}.{i % 250 + 1}", 9470) for i in range(1000)]
    sent = sum(allowed.may_send(to, second * NS_PER_S) for second in range(60) for to in victims)
    assert sent <= ALL_TRIES + 60 * ALL_TRIES_PER_S


def test_consent_is_for_a_while_and_renewed_by_each_answer():
    allowed, to = EgressPolicy(Scope.INTERNET), target(PUBLIC, 9470)
    other_port = target(PUBLIC, 9999)
    allowed.answered(to, 0)
    assert all(allowed.may_send(to, CONSENT_NS - 1) for _ in range(1000))
    assert allowed.consents(other_port, CONSENT_NS - 1)  # one machine
    assert not allowed.consents(to, CONSENT_NS)
    allowed.answered(to, CONSENT_NS)
    assert allowed.consents(to, CONSENT_NS + 1)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 65535)), max_size=300))
def test_no_plan_makes_a_probe_send_to_what_is_not_allowed(addresses):
    allowed = EgressPolicy(Scope.INTERNET)
    for number, port in addresses:
        host = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
        to = target(host, port)
        if to is not None and allowed.may_send(to, 0):
            first = number >> 24
            assert port >= 1024
            assert first not in (0, 10, 127)
            assert first < 224
            assert not host.startswith(("192.168.", "169.254."))


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [
        ("example.org", 9470, "it is not the address of a single machine"),
        ("240.0.0.1", 9470, "it is not the address of a single machine"),
        ("127.0.0.1", 9470, "it is this machine itself"),
        ("::1", 9470, "it is this machine itself"),
        ("10.0.0.1", 9470, "it is a private address, and --lan was not given"),
        (PUBLIC, 1023, "port 1023 belongs to a well-known service"),
    ],
)
def test_why_an_address_is_not_sent_to(host, port, why):
    assert EgressPolicy(Scope.INTERNET).why_not(host, port) == why


def test_only_the_joined_collector_may_have_any_port():
    allowed = EgressPolicy(Scope.INTERNET)
    assert allowed.why_not("", 9470) is not None  # not joined yet
    allowed.collector = "10.0.0.1"
    assert allowed.why_not("10.0.0.1", 443) is None
    assert allowed.why_not("10.0.0.2", 9470) is not None
    assert allowed.why_not("", 9470) is not None


def test_an_address_is_news_once_and_only_so_many_are():
    allowed = EgressPolicy(Scope.INTERNET)
    assert [allowed.is_news(PUBLIC) for _ in range(3)] == [True, False, False]
    assert sum(allowed.is_news(f"8.8.{i // 250}.{i % 250 + 1}") for i in range(500)) == 63


def test_consent_opens_no_address_that_is_not_allowed():
    allowed, to = EgressPolicy(Scope.INTERNET), target("10.0.0.1", 9470)
    allowed.answered(to, 0)
    assert not allowed.permits(to)
    assert not allowed.may_send(to, 1)
    assert not allowed.may_dial(to, 1)


def test_consent_lasts_a_minute_and_lifts_every_limit():
    allowed, to = EgressPolicy(Scope.INTERNET), target(PUBLIC, 9470)
    allowed.answered(to, 7)
    at_ns = 7 + 60 * NS_PER_S
    assert allowed.consents(to, at_ns - 1)
    assert not allowed.consents(to, at_ns)
    assert all(allowed.may_dial(to, at_ns - 1) for _ in range(100))


def taken(may, to, now_ns: int) -> int:
    return sum(may(to, now_ns) for _ in range(1000))


def test_one_address_is_asked_sixty_times_at_once_then_once_a_second():
    allowed, to = EgressPolicy(Scope.INTERNET), target(PUBLIC, 9470)
    assert [taken(allowed.may_send, to, s * NS_PER_S) for s in (0, 1, 3)] == [60, 1, 2]


def test_one_address_is_dialled_five_times_at_once_then_every_ten_seconds():
    allowed, to = EgressPolicy(Scope.INTERNET), target(PUBLIC, 9470)
    assert [taken(allowed.may_dial, to, s * NS_PER_S) for s in (0, 9, 10, 40)] == [5, 0, 1, 3]


def test_all_addresses_together_have_a_share():
    allowed = EgressPolicy(Scope.INTERNET)
    victims = [target(f"8.8.{i // 250}.{i % 250 + 1}", 9470) for i in range(1000)]
    assert [sum(allowed.may_send(to, s * NS_PER_S) for to in victims) for s in (0, 1, 3)] == [300, 20, 40]
    assert [sum(allowed.may_dial(to, s * NS_PER_S) for to in victims) for s in (0, 1, 3)] == [60, 2, 4]


def test_what_is_remembered_of_addresses_is_bounded_and_the_oldest_goes():
    allowed = EgressPolicy(Scope.INTERNET)
    hosts = [target(f"8.{i // 62500 + 1}.{i // 250 % 250}.{i % 250 + 1}", 9470) for i in range(4097)]
    for to in hosts:
        allowed.answered(to, 0)
    assert [allowed.consents(to, 1) for to in (hosts[0], hosts[1], hosts[-1])] == [False, True, True]
    allowed.answered(hosts[1], 0)  # renewed, and so the youngest again
    allowed.answered(target("9.9.9.9", 9470), 0)
    assert [allowed.consents(to, 1) for to in (hosts[1], hosts[2], hosts[3])] == [True, False, True]
    assert len(allowed._until) == 4096


def test_buckets_of_single_addresses_are_bounded_and_the_oldest_goes():
    allowed = EgressPolicy(Scope.INTERNET)
    hosts = [target(f"8.{i // 62500 + 1}.{i // 250 % 250}.{i % 250 + 1}", 9470) for i in range(4097)]
    for second, to in enumerate(hosts):
        allowed.may_dial(to, second * NS_PER_S)
    assert len(allowed._dials._each) == 4096
    assert hosts[0].sockaddr[0] not in allowed._dials._each
    allowed.may_dial(hosts[1], 5000 * NS_PER_S)  # dialled again, and so the youngest
    allowed.may_dial(hosts[0], 5000 * NS_PER_S)
    assert [to.sockaddr[0] in allowed._dials._each for to in hosts[:4]] == [True, True, False, True]
