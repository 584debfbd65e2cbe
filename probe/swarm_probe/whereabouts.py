"""Where a peer of the plan may be: its addresses as the sockets want them, and whether two plans mean the same peer."""

from __future__ import annotations

import logging

import msgspec

from swarm_probe.allowed import Allowed
from swarm_probe.sockets import Target, target
from swarm_probe.trips import Aim, behind_nat
from swarm_protocol.messages import Peer
from swarm_protocol.text import safe

log = logging.getLogger(__name__)


def tcp_targets(peer: Peer, allowed: Allowed) -> tuple[Target, ...]:
    return _targets(peer, peer.tcp_port, allowed)


def aims(peer: Peer, allowed: Allowed) -> list[Aim]:
    """Where its UDP port may be: as it names its addresses itself, then as STUN saw it."""
    punched = behind_nat(peer)
    seen = [
        target(mapped.host, mapped.port) for mapped in peer.mapped if allowed.why_not(mapped.host, mapped.port) is None
    ]
    routers = {to.sockaddr[0] for to in seen if to is not None}
    told = [Aim(to, punched and to.sockaddr[0] in routers) for to in _targets(peer, peer.udp_port, allowed)]
    known = {aim.to for aim in told}
    return told + [Aim(to, punched) for to in seen if to is not None and to not in known]


def same(one: Peer, other: Peer) -> bool:
    """But for how often it is measured: that is no reason to begin anew."""
    return msgspec.structs.replace(one, often=1) == msgspec.structs.replace(other, often=1)


def moved_only(before: Peer, after: Peer, allowed: Allowed) -> bool:
    """Whether only its whereabouts changed, and it can still be sent to."""
    if not aims(after, allowed):
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


def _targets(peer: Peer, port: int, allowed: Allowed) -> tuple[Target, ...]:
    if port == 0:
        return ()
    found = []
    for host in peer.hosts:
        refusal = allowed.why_not(host, port)
        where = target(host, port)
        if refusal is None and where is not None:
            found.append(where)
        elif allowed.is_news(host):
            log.info("%s is not measured at %s: %s", safe(peer.name), safe(host), refusal or "no such address here")
    return tuple(dict.fromkeys(found))
