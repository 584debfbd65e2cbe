"""Store how each member is connected, so that a restarted collector can plan with it at once.

Otherwise the first plan after a restart would be empty: members come back within a minute or so, and until then paths
between those that are back and those that are not would go unmeasured. The key, the proof and the token are not
stored. The entry is removed when the member says goodbye.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from swarm_collector.members.addresses import MemberAddresses
from swarm_collector.members.join_rules import Register
from swarm_collector.members.membership import Member, Membership
from swarm_protocol.messages.probe_messages import PROTOCOL_VERSION, Address, Hello, HostFacts, Port, Reach
from swarm_protocol.units import NS_PER_S
from swarm_storage.history.recording import NodeRow

MAX_DOWNTIME_NS: Final = 600 * NS_PER_S  # a collector that was down for longer starts with an empty plan
_UNKNOWN: Final = HostFacts(system="", cpu="", cores=1, ram_bytes=0)


class Presence(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member's presence, as stored."""

    udp_port: Port
    tcp_port: Port
    observed: str
    reached: str
    software: str = ""
    name: str = ""  # as the node calls itself
    addresses: tuple[Address, ...] = ()
    quic: bool = False
    relay: bool = False
    follow_up: bool = False
    trains: bool = False
    reach: Reach = Reach()


def presence_of(member: Member) -> str | None:
    """Return a member's presence; None: it is not connected."""
    hello = member.hello
    if hello is None or member.goodbye:
        return None
    where = member.where
    kept = Presence(
        udp_port=hello.udp_port,
        tcp_port=hello.tcp_port,
        observed=where.observed,
        reached=where.reached,
        software=hello.software,
        name=hello.name,
        addresses=hello.addresses,
        quic=hello.quic,
        relay=hello.relay,
        follow_up=hello.follow_up,
        trains=hello.trains,
        reach=member.reach,
    )
    return msgspec.json.encode(kept).decode()


def restored(text: str, facts: HostFacts | None) -> tuple[Hello, MemberAddresses, Reach] | None:
    """Return the stored presence; None if it cannot be read, perhaps of a later version."""
    try:
        kept = msgspec.json.decode(text, type=Presence)
    except msgspec.DecodeError:
        return None
    hello = Hello(
        protocol=PROTOCOL_VERSION,
        name=kept.name or "node",
        epoch=0,
        udp_port=kept.udp_port,
        tcp_port=kept.tcp_port,
        addresses=kept.addresses,
        software=kept.software,
        facts=facts or _UNKNOWN,
        quic=kept.quic,
        relay=kept.relay,
        follow_up=kept.follow_up,
        trains=kept.trains,
    )
    return hello, MemberAddresses(kept.observed, kept.addresses, kept.reached), kept.reach


def restore_present(
    membership: Membership, register: Register, known: Sequence[NodeRow], wall_ns: int, steady_ns: int
) -> None:
    """Keep members in plans that were connected when the collector stopped, if that was moments ago."""

    def heard_ns(row: NodeRow) -> int:
        return min(row.seen_ns, wall_ns)

    if wall_ns - max(map(heard_ns, known), default=0) > MAX_DOWNTIME_NS:
        return
    for row in known:
        kept = restored(row.presence, row.facts) if row.presence is not None else None
        if kept is not None and not register.row(row.node_id).revoked_ns and wall_ns - heard_ns(row) <= MAX_DOWNTIME_NS:
            membership.was_present(row.node_id, *kept, steady_ns)
