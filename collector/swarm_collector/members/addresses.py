"""Choose which addresses of a member another member is given, and in which order to try them.

A probe names its own addresses and the collector sees one more, the observed one. Loopback is offered only between
two members on the collector's own machine; private addresses only where they can mean the same network: between
members seen at one public address, or both seen at private ones. Link-local addresses (a direct cable) come last, and
only between members that each told some: their owners allow it. Nothing but IP literals is ever passed on, so a member
cannot make others look up a name. Pure.
"""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass
from typing import Final

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
MAX_HOSTS: Final = 16
_REMEMBERED: Final = 65_536  # each address is looked up for each pair it is part of


@dataclass(frozen=True, slots=True)
class MemberAddresses:
    observed: str  # where its connection came from
    own: tuple[str, ...]  # as the member reports them
    reached: str  # the collector's address that it connected to


def literal(text: str) -> IP | None:
    """Return the address that `text` spells, v4-mapped ones as IPv4; None for names and unusable addresses.

    The zone of a link-local address is left out: it names an interface of ours. On another address it is nonsense.
    """
    plain, zone, _ = text.partition("%")
    try:
        address = ipaddress.ip_address(plain)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if zone and not address.is_link_local:
        return None
    if address.is_unspecified or address.is_multicast or (address.is_reserved and not address.is_link_local):
        return None
    return address


@dataclass(frozen=True, slots=True)
class _Seen:
    """One member's addresses sorted by use, computed once for all its pairs."""

    observed: str  # empty: nothing that a peer could use
    is_loopback: bool
    is_global: bool
    is_link_local: bool
    private: tuple[str, ...]  # its own addresses, by who can reach them
    links: tuple[str, ...]  # of direct cables
    public: tuple[str, ...]
    collector: str  # where it reached the collector, unless over loopback


@functools.lru_cache(_REMEMBERED)
def _seen(where: MemberAddresses) -> _Seen:
    observed, reached = literal(where.observed), literal(where.reached)
    own = [address for text in where.own if (address := literal(text)) is not None]
    return _Seen(
        observed=str(observed) if observed is not None else "",
        is_loopback=observed is not None and observed.is_loopback,
        is_global=observed is not None and observed.is_global,
        is_link_local=observed is not None and observed.is_link_local,
        private=tuple(str(a) for a in own if not (a.is_global or a.is_loopback or a.is_link_local)),
        links=tuple(str(address) for address in own if address.is_link_local),
        public=tuple(str(address) for address in own if address.is_global),
        collector=str(reached) if reached is not None and not reached.is_loopback else "",
    )


def hosts_for(of: MemberAddresses, to: MemberAddresses) -> tuple[str, ...]:
    """Return where the member `to` may try to reach the member `of`, the nearest first."""
    there, here = _seen(of), _seen(to)
    if not there.observed or not here.observed:
        return ()
    offered: list[str] = []
    if there.is_loopback:
        if here.is_loopback:
            offered.append(there.observed)
        elif here.collector:
            offered.append(here.collector)  # it runs on the collector's machine, which `to` reached there
    if there.observed == here.observed or (not there.is_global and not here.is_global):
        offered += there.private
    if not there.is_loopback:
        offered.append(there.observed)
    offered += there.public
    if there.observed == here.observed or (not there.is_global and not here.is_global):
        offered += there.links if here.links or here.is_link_local else ()
    return tuple(dict.fromkeys(offered))[:MAX_HOSTS]


@functools.lru_cache(_REMEMBERED)
def access_link_of(where: MemberAddresses) -> str:
    """Return a name for the member's access link: members with one name share it."""
    address = literal(where.observed)
    if address is None:
        return where.observed
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))  # a household has a /64
    return str(address)


@functools.lru_cache(_REMEMBERED)
def is_public(host: str) -> bool:
    address = literal(host)
    return address is not None and address.is_global
