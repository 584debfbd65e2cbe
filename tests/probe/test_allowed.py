"""To whom a probe sends at all: the rules that no collector can change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.owner_limits.egress_policy import (
    ALL_ASKS,
    ALL_ASKS_PER_S,
    ASKS,
    ASKS_PER_S,
    CONSENT_NS,
    DIALS,
    EgressPolicy,
    Scope,
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
    found = [EgressPolicy(scope, 0).why_not(host, port) is None for scope in Scope]
    assert found == [internet, lan, this_host]


@pytest.mark.parametrize(
    ("collector", "lan", "scope"),
    [
        ("127.0.0.1", False, Scope.HOST),
        ("192.168.1.2", False, Scope.LAN),
        (PUBLIC, False, Scope.INTERNET),
        (PUBLIC, True, Scope.LAN),
        ("", False, Scope.INTERNET),  # through a proxy: its address says nothing
    ],
)
def test_the_address_of_the_collector_says_what_may_be_measured(collector, lan, scope):
    assert scope_of(collector, lan=lan) is scope


def test_who_never_answers_is_soon_left_alone():
    allowed, to = EgressPolicy(Scope.INTERNET, 0), target(PUBLIC, 9470)
    sent = sum(allowed.may_send(to, now_ns) for now_ns in range(0, 600 * NS_PER_S, NS_PER_S // 10))
    assert sent <= ASKS + 600 * ASKS_PER_S
    assert sum(allowed.may_dial(to, 600 * NS_PER_S) for _ in range(100)) == DIALS


def test_a_thousand_victims_together_get_no_more_than_a_few_packets_a_second():
    allowed = EgressPolicy(Scope.INTERNET, 0)
    victims = [target(f"8.8.{i // 250}.{i % 250 + 1}", 9470) for i in range(1000)]
    sent = sum(allowed.may_send(to, second * NS_PER_S) for second in range(60) for to in victims)
    assert sent <= ALL_ASKS + 60 * ALL_ASKS_PER_S


def test_consent_is_for_a_while_and_renewed_by_each_answer():
    allowed, to = EgressPolicy(Scope.INTERNET, 0), target(PUBLIC, 9470)
    other_port = target(PUBLIC, 9999)
    allowed.answered(to, 0)
    assert all(allowed.may_send(to, CONSENT_NS - 1) for _ in range(1000))
    assert allowed.consents(other_port, CONSENT_NS - 1)  # one machine
    assert not allowed.consents(to, CONSENT_NS)
    allowed.answered(to, CONSENT_NS)
    assert allowed.consents(to, CONSENT_NS + 1)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 65535)), max_size=300))
def test_no_plan_makes_a_probe_send_to_what_is_not_allowed(addresses):
    allowed = EgressPolicy(Scope.INTERNET, 0)
    for number, port in addresses:
        host = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
        to = target(host, port)
        if to is not None and allowed.may_send(to, 0):
            first = number >> 24
            assert port >= 1024
            assert first not in (0, 10, 127)
            assert first < 224
            assert not host.startswith(("192.168.", "169.254."))
