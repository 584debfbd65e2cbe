"""What only the collector knows about two members that cannot reach each other."""

from __future__ import annotations

import pytest
from collector_fixtures import id_of, joined

from swarm_collector.members.membership import Membership
from swarm_collector.members.rendezvous import BELIEVED_NS, Rendezvous, mapped_for, why_no_path
from swarm_protocol.messages.probe_messages import Mapped, Reach
from swarm_protocol.messages.samples import HostSample, LinkSample, NatKind
from swarm_protocol.units import NS_PER_S

NOW = 1_800_000_000 * NS_PER_S
STEADY = 5_000 * NS_PER_S  # the collector's other clock, of the same moment


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        ("symmetric", "symmetric", "hard-nats"),
        ("symmetric", "endpoint-independent", "hard-nats"),
        ("symmetric", "none", "no-answer"),  # that one should have worked
        ("symmetric", None, "no-answer"),
        ("endpoint-independent", "endpoint-independent", "no-answer"),
        ("udp-blocked", "symmetric", "udp-blocked"),
        ("none", "udp-blocked", "udp-blocked"),
        (None, None, "no-answer"),
    ],
)
def test_why_there_is_no_path(ours: NatKind | None, theirs: NatKind | None, why: str):
    assert why_no_path(ours, theirs) == why
    assert why_no_path(theirs, ours) == why


def host(rtt_ms: float | None, nat: NatKind | None = None, at_ns: int = NOW) -> HostSample:
    memory = {"ram_free_bytes": 1, "ram_total_bytes": 1}
    return HostSample(at_ns=at_ns, cpu_percent=0.0, nat=nat, collector_rtt_ms=rtt_ms, **memory)


def lost(peer: str, **changes: object) -> LinkSample:
    return LinkSample(**{"at_ns": NOW, "peer": id_of(peer), "path": "none", "sent": 16, "lost": 16, **changes})  # type: ignore[arg-type]


class Rig:
    def __init__(self, kiln: NatKind | None, attic: NatKind | None) -> None:
        self.members = Membership()
        self.kiln, self.attic = joined(self.members, "kiln", 1), joined(self.members, "attic", 2)
        self.members.reached(1, Reach(nat=kiln, mapped=(Mapped("203.0.113.7", 4000),)))
        self.members.reached(2, Reach(nat=attic))
        self.rendezvous = Rendezvous(self.members.get)

    def explained(self, *samples: LinkSample | HostSample, of: str = "kiln", proven: bool = True):
        member = self.kiln if of == "kiln" else self.attic
        return self.rendezvous.explained(member, samples, NOW, STEADY, stun_proven=proven)


def test_a_link_without_a_path_becomes_the_detour_and_never_gets_quantiles():
    rig = Rig("symmetric", "symmetric")
    rig.explained(host(30.0), of="attic")
    _, link = rig.explained(host(12.5), lost("attic"))
    assert link == LinkSample(
        at_ns=NOW, peer=id_of("attic"), path="relayed", sent=0, lost=0, rtt_p50_ms=42.5, why="hard-nats"
    )


@pytest.mark.parametrize(
    ("sample", "changes"),
    [
        (lost("attic", path="punched"), {}),  # there is one
        (lost("attic", at_ns=NOW - 2 * BELIEVED_NS), {}),  # from a spool, of another time
        (lost("attic", sent=0, lost=0), {}),
        (lost("nobody"), {}),
        (lost("attic", hop_ms=31.0), {"why": "no-answer"}),  # TCP gets there: no detour is needed
    ],
)
def test_what_is_left_as_it_was_measured(sample: LinkSample, changes: dict[str, str]):
    rig = Rig(None, None)
    rig.explained(host(30.0), of="attic")
    _, link = rig.explained(host(12.5), sample)
    assert isinstance(link, LinkSample)
    assert (link.path, link.sent, link.why) == (sample.path, sample.sent, changes.get("why"))


def test_without_both_round_trips_there_is_a_reason_and_no_estimate():
    (link,) = Rig("symmetric", "symmetric").explained(lost("attic"))
    assert isinstance(link, LinkSample)
    assert (link.path, link.why, link.rtt_p50_ms, link.lost) == ("none", "hard-nats", None, 16)


@pytest.mark.parametrize("goodbye", ["stopped by its owner", None])
def test_a_peer_that_has_left_is_no_matter_of_paths(goodbye: str | None):
    rig = Rig("symmetric", "symmetric")
    rig.members.gone(2, STEADY - 3 * NS_PER_S, goodbye)
    late = lost("attic", at_ns=NOW - 2 * NS_PER_S)
    assert rig.explained(late) == (late,)


@pytest.mark.parametrize("goodbye", ["stopped by its owner", None])
def test_a_window_that_ended_before_its_peer_left_is_explained(goodbye: str | None):
    """It is reported some seconds after its end: answers may still be on their way."""
    rig = Rig("symmetric", "symmetric")
    rig.explained(host(30.0), of="attic")
    rig.members.gone(2, STEADY - 3 * NS_PER_S, goodbye)
    _, link = rig.explained(host(12.5), lost("attic", at_ns=NOW - 4 * NS_PER_S))
    assert isinstance(link, LinkSample)
    assert (link.path, link.why, link.rtt_p50_ms) == ("relayed", "hard-nats", 42.5)


def test_a_peer_that_was_never_connected_is_no_matter_of_paths():
    rig = Rig("symmetric", "symmetric")
    rig.members.restore([(id_of("cellar"), "cellar")])
    assert rig.explained(lost("cellar")) == (lost("cellar"),)


def test_a_peer_whose_membership_was_revoked_is_no_matter_of_paths():
    rig = Rig("symmetric", "symmetric")
    rig.members.revoke(rig.attic, STEADY)
    assert rig.explained(lost("attic")) == (lost("attic"),)


def test_udp_counts_as_blocked_only_if_other_members_have_come_through():
    rig = Rig(None, None)
    (doubted,) = rig.explained(host(1.0, "udp-blocked"), proven=False)
    (believed,) = rig.explained(host(1.0, "udp-blocked"))
    assert isinstance(doubted, HostSample)
    assert isinstance(believed, HostSample)
    assert (doubted.nat, believed.nat) == (None, "udp-blocked")


def test_news_of_a_port_is_news_to_its_peers_once():
    members = Membership()
    member = joined(members, "kiln", 1)
    before = member.version
    reach = Reach(nat="symmetric", mapped=(Mapped("203.0.113.7", 4000),))
    assert members.reached(1, reach)
    assert not members.reached(1, reach)
    assert member.version == before + 1


def test_a_loopback_address_is_not_announced_to_other_machines():
    members = Membership()
    here, there = joined(members, "here", 1, observed="127.0.0.1"), joined(members, "there", 2)
    members.reached(1, Reach(mapped=(Mapped("127.0.0.1", 4000), Mapped("kiln.example", 1))))
    assert mapped_for(here, there) == ()
    assert mapped_for(here, here) == (Mapped("127.0.0.1", 4000),)
