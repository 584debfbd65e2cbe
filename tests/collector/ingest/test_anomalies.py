"""A node with false figures is found by its peers, and a hundred nodes of one person count as one vote."""

from __future__ import annotations

import pytest
from collector_fixtures import id_of
from collector_rig import collector, link, uplink
from msgspec.structs import replace

from swarm_collector.verification.anomalies import Anomalies, Reporter, impossible, network_of, weighted_median, weights
from swarm_protocol.messages import operator_messages

HONEST = {"a": 10.0, "b": 20.0, "c": 40.0, "d": 80.0}  # round trip to the liar


def voices(*nodes: str, label: str = "", network: str = "") -> dict[str, Reporter]:
    return {node: Reporter(label, network or f"203.0.{ord(node[0])}.0/24") for node in nodes}


def world(lies: dict[str, float]) -> dict[tuple[str, str], float]:
    """All agree, except x about its own links."""
    rtts = {("x", node): lies.get(node, true) for node, true in HONEST.items()}
    rtts |= {(node, "x"): true for node, true in HONEST.items()}
    return rtts | {(one, two): 30.0 for one in HONEST for two in HONEST if one != two}


def test_a_node_that_shortens_its_round_trips_is_in_doubt_and_the_others_are_not():
    doubts = Anomalies()
    doubts.look(world({"b": 1.0, "c": 1.0, "d": 1.0}), voices(*HONEST, "x"))
    assert doubts.of("x", str) == ("round trips that 3 others see 39 ms differently",)
    assert [doubts.of(node, str) for node in HONEST] == [()] * 4


def test_a_hundred_nodes_of_one_person_cannot_put_another_node_in_doubt():
    nodes = [f"s{i}" for i in range(100)]
    rtts = {(node, "x"): 500.0 for node in nodes} | {("x", node): 20.0 for node in nodes}
    rtts |= {("x", "h"): 30.0, ("h", "x"): 31.0}
    of_one_invite = {node: Reporter("mallory", f"198.51.{i}.0/24") for i, node in enumerate(nodes)}
    in_one_house = {node: Reporter("", "198.51.100.0/24") for node in nodes}
    for sybils in (of_one_invite, in_one_house):
        doubts = Anomalies()
        doubts.look(rtts, sybils | voices("x", "h"))
        assert doubts.of("x", str) == ()


def test_agreement_within_noise_is_no_disagreement():
    doubts = Anomalies()
    doubts.look(world({node: true * 1.2 + 1 for node, true in HONEST.items()}), voices(*HONEST, "x"))
    assert doubts.of("x", str) == ()


def test_two_members_in_one_place_that_claim_two_networks_are_named():
    doubts = Anomalies()
    doubts.look({("a", "b"): 0.05, ("b", "a"): 0.06}, voices("a", "b"))
    assert doubts.of("a", str.upper) == ("in the same place as B, though on another network",)
    doubts.look({("a", "b"): 0.05, ("b", "a"): 0.06}, voices("a", "b", network="198.51.100.0/24"))
    assert doubts.of("a", str) == ()


def test_weights_of_a_tree_and_of_a_network_add_up_to_one_vote():
    many = {f"s{i}": Reporter("mallory", f"10.{i}.0.0/24") for i in range(50)} | voices("a", "b")
    shares = weights(many)
    assert sum(shares[node] for node in many if node.startswith("s")) == pytest.approx(1.0)
    assert (shares["a"], shares["b"]) == (1.0, 1.0)
    assert (
        weighted_median([(1.0, shares[node]) for node in many if node[0] == "s"] + [(30.0, 1.0), (31.0, 1.0)]) == 30.0
    )
    assert weighted_median([]) is None


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("unknown", "unknown"),
    ],
)
def test_a_network_is_what_one_customer_has(host, network):
    assert network_of(host) == network


def test_impossible_figures_are_reported():
    fine = link(1, "0" * 16, 12.5)
    assert impossible(fine, same_network=False) is None
    assert impossible(replace(fine, lost=21), same_network=False) == "21 packets lost of 20 sent"
    assert impossible(replace(fine, rtt_p50_ms=3.0), same_network=False) == "quantiles of a round trip out of order"
    short = link(1, "0" * 16, 0.004)
    assert impossible(short, same_network=False) == "a round trip of 0.004 ms to another network, faster than light"
    assert impossible(short, same_network=True) is None
    quick = replace(uplink(1, "0" * 16), mbps=9000.0)
    assert impossible(quick, same_network=False) == "9000 Mbit/s where 1048576 bytes took 1.00 s"
    assert impossible(uplink(1, "0" * 16), same_network=False) is None


async def test_a_doubt_reaches_the_operator_and_the_events(tmp_path):
    import time

    async with collector(tmp_path) as rig, rig.probe("kiln") as kiln, rig.probe("oven") as oven:
        await kiln.welcome()
        await oven.welcome()
        await kiln.batch(1, replace(uplink(time.time_ns(), id_of("oven")), mbps=9000.0))
        await kiln.acked(1)
        rig.swarm_state.anomaly_monitor.look()
        rows = {
            row.name: row.doubts
            for row in (await rig.server.operator_requests.answer(operator_messages.ListMembers())).rows
        }
        assert rows["kiln"] == ("impossible: 9000 Mbit/s where 1048576 bytes took 1.00 s",)
        assert rows["oven"] == ()
        details = [event.detail for event in rig.swarm_state.snapshot().events if event.node == "kiln"]
        assert "in doubt: impossible: 9000 Mbit/s where 1048576 bytes took 1.00 s" in details


def test_a_forgotten_node_is_no_longer_in_doubt() -> None:
    doubts = Anomalies()
    doubts.add("a", replace(link(1, "0" * 16, 12.5), lost=21), same_network=False)
    doubts.challenged("a", "product 3 of 16 is wrong")
    doubts.look({("a", "b"): 0.05, ("b", "a"): 0.06}, voices("a", "b"))
    assert len(doubts.of("a", str)) == 3
    assert len(doubts.news(["a", "b"], str)) == 4
    doubts.forget("a")
    assert doubts.of("a", str) == doubts.of("b", str) == ()
    doubts.challenged("a", "product 3 of 16 is wrong")  # it came again, and is told of again
    assert doubts.news(["a", "b"], str) == [("a", "challenge failed: product 3 of 16 is wrong")]


def test_a_failed_challenge_is_a_doubt_until_one_is_passed() -> None:
    doubts = Anomalies()
    doubts.challenged("a", "product 3 of 16 is wrong")
    assert doubts.of("a", str) == ("challenge failed: product 3 of 16 is wrong",)
    assert doubts.of("b", str) == ()
    doubts.challenged("a", None)
    assert doubts.of("a", str) == ()
