"""Track the round trips with one peer: addresses tried, idle round trips, and a window as a sample."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import msgspec

from swarm_probe.operating_system import interfaces
from swarm_probe.sockets import Target
from swarm_probe.udp.hole_punching import HolePunch
from swarm_probe.udp.stamp.stamp_sender import StampSession
from swarm_probe.udp.stamp.stamp_window import PathReport
from swarm_protocol.messages.probe_messages import Peer
from swarm_protocol.messages.samples import LinkSample, PathKind
from swarm_protocol.text import safe
from swarm_protocol.units import ms_from_ns

IDLE_RTTS: Final = 20  # latest round trips over the idle connection, kept for the idle figure during a transfer
IDLE_RTTS_MIN: Final = 5


class RttTarget(msgspec.Struct, frozen=True):
    """An address to try for a peer."""

    to: Target
    punched: bool = False  # unreachable from outside, unless the peer sends there first


class RttSession(msgspec.Struct):
    """The round trips with one peer."""

    peer: Peer
    targets: list[Target]  # as announced, then as learned from the peer's own signed packets
    session: StampSession
    punched: list[bool]  # for each: only a hole makes it reachable
    announced: int  # how many of them are from the plan
    hole_punch: HolePunch
    punching_now: bool = False
    opened: asyncio.Event = msgspec.field(
        default_factory=asyncio.Event
    )  # the hole has opened; the waiting task clears this
    interface: int = 0  # the kernel's number of the interface that the latest reply came by; 0: unknown
    due_ns: int = 0
    ended: bool = False
    hop_ms: float | None = None  # latest hop to this peer; goes into its link samples
    idle_rtts: deque[int] = msgspec.field(default_factory=lambda: deque(maxlen=IDLE_RTTS))
    loaded_rtts: list[int] | None = None  # collected while a transfer of ours runs to this peer
    enough_idle: asyncio.Event = msgspec.field(default_factory=asyncio.Event)


def behind_nat(peer: Peer) -> bool:
    return peer.nat != "none" and bool(peer.mapped)


def _way(rtt: RttSession, report: PathReport) -> tuple[str | None, str | None]:
    """Return (address of the peer, interface of this machine) of the path in use; None: there is none, or unknown."""
    if not report.settled or report.host is None or not 0 <= report.host < len(rtt.targets):
        return None, None
    sockaddr = rtt.targets[report.host].sockaddr
    name = interfaces.name_of(rtt.interface) or interfaces.towards(sockaddr)
    return str(sockaddr[0]).partition("%")[0], safe(name, 32) or None


def link_sample(rtt: RttSession, report: PathReport, at_ns: int) -> LinkSample:
    """Return the sample. `at_ns`: the window's end by the wall clock."""
    address, interface = _way(rtt, report)
    return LinkSample(
        at_ns=at_ns,
        peer=rtt.peer.node_id,
        path=_path(rtt, report),
        sent=report.sent,
        lost=report.lost,
        lost_out=report.lost_out,
        lost_back=report.lost_back,
        rtt_min_ms=_ms(report.rtt_min_ns),
        rtt_p50_ms=_ms(report.rtt_p50_ns),
        rtt_p95_ms=_ms(report.rtt_p95_ns),
        rtt_p99_ms=_ms(report.rtt_p99_ns),
        pdv_ms=_ms(report.pdv_ns),
        jitter_rfc3550_ms=_ms(report.jitter_ns),
        ipdv_ms=_ms(report.ipdv_ns),
        duplicates=report.duplicates,
        reordered=report.reordered,
        ttl_out=report.ttl_out,
        ttl_back=report.ttl_back,
        hop_ms=rtt.hop_ms,
        loaded=report.loaded,
        timestamps="kernel" if report.kernel else "user",
        stamped_out_ms=_ms(report.out_ns),
        stamped_back_ms=_ms(report.back_ns),
        address=address,
        interface=interface,
    )


def _path(rtt: RttSession, report: PathReport) -> PathKind:
    if not report.settled:
        return "none"
    known = report.host is not None and 0 <= report.host < len(rtt.punched)
    punched = rtt.punched[report.host or 0] if known else behind_nat(rtt.peer)
    return "punched" if punched else "direct"


def _ms(ns: float | None) -> float | None:
    return None if ns is None else ms_from_ns(ns)
