"""Turn a peer's addresses into socket addresses, and compare a peer of two plans."""

from __future__ import annotations

import logging

import msgspec

from swarm_probe.operating_system.interfaces import is_link_local, zones
from swarm_probe.owner_limits.egress_policy import LINK_LOCAL, EgressPolicy
from swarm_probe.sockets import Target, target
from swarm_probe.udp.rtt_session import RttTarget, behind_nat
from swarm_protocol.messages.probe_messages import Peer
from swarm_protocol.text import safe

log = logging.getLogger(__name__)


def tcp_targets(peer: Peer, allowed: EgressPolicy) -> tuple[Target, ...]:
    return _targets(peer, peer.tcp_port, allowed)


def rtt_targets(peer: Peer, allowed: EgressPolicy) -> list[RttTarget]:
    """Return where its UDP port may be: its own addresses first, then as STUN saw it."""
    punched = behind_nat(peer)
    seen = [
        target(mapped.host, mapped.port) for mapped in peer.mapped if allowed.why_not(mapped.host, mapped.port) is None
    ]
    routers = {to.sockaddr[0] for to in seen if to is not None}
    announced = [RttTarget(to, punched and to.sockaddr[0] in routers) for to in _targets(peer, peer.udp_port, allowed)]
    known = {each.to for each in announced}
    return announced + [RttTarget(to, punched) for to in seen if to is not None and to not in known]


def same(one: Peer, other: Peer) -> bool:
    """Return whether both are equal except for how often the peer is measured, which is no reason to start over."""
    return msgspec.structs.replace(one, often=1) == msgspec.structs.replace(other, often=1)


def moved_only(before: Peer, after: Peer, allowed: EgressPolicy) -> bool:
    """Return whether only its addresses changed, and it can still be sent to."""
    if not rtt_targets(after, allowed):
        return False
    moved = msgspec.structs.replace(
        before,
        name=after.name,
        hosts=after.hosts,
        udp_port=after.udp_port,
        tcp_port=after.tcp_port,
        nat=after.nat,
        mapped=after.mapped,
        quic=after.quic,
        often=after.often,
    )
    return moved == after


def _targets(peer: Peer, port: int, allowed: EgressPolicy) -> tuple[Target, ...]:
    if port == 0:
        return ()
    found = []
    for host in peer.hosts:
        refusal = allowed.why_not(host, port)
        wheres = [where for name in _with_zones(host, allowed.interface) if (where := target(name, port)) is not None]
        if refusal is None and wheres:
            found += wheres
        elif allowed.is_news(host):
            log.info("%s is not measured at %s: %s", safe(peer.name), safe(host), refusal or "no such address here")
    return tuple(dict.fromkeys(found))


def only_by_link(peer: Peer, allowed: EgressPolicy) -> bool:
    """Return whether the peer can only be reached at link-local addresses, which this probe's owner has not allowed."""
    return any(allowed.why_not(host, peer.udp_port) == LINK_LOCAL for host in peer.hosts) and not rtt_targets(
        peer, allowed
    )


def _with_zones(host: str, interface: str) -> tuple[str, ...]:
    """Return the addresses with zones: a peer's zone means nothing here, so its link-local address is tried on each
    link."""
    if ":" not in host or not is_link_local(host):
        return (host,)
    return tuple(f"{host.partition('%')[0]}%{zone}" for zone in zones(interface))
