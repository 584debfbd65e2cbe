"""List the network interfaces of this machine: its addresses, and which interface a packet takes.

Link-local addresses (169.254.x.x, fe80::) are those of a direct cable or Thunderbolt: no server assigns them, and they
are valid on one link only. An IPv6 one is sent to through a named interface, the zone (RFC 4007).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from swarm_probe.operating_system import system
from swarm_probe.operating_system.readings import Readings

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Interfaces = Callable[[], Mapping[str, Sequence[Any]]]
MAX_ADDRESSES: Final = 16  # of Hello
MAX_ZONES: Final = 4  # interfaces that one link-local address of a peer is tried through


def addresses(
    bind_host: str = "",
    interfaces: Interfaces = system.interface_addresses,
    *,
    interface: str = "",
    link_local: bool = False,
) -> tuple[str, ...]:
    """Return where other members may find this machine, besides where the collector sees it; IPv4 first, link-local
    last.

    `interface`: of this one alone. `link_local`: those too, without their zone, which means nothing elsewhere.
    """
    if bind_host:
        return (str(ipaddress.ip_address(bind_host.partition("%")[0])),)
    found = {
        address
        for name, address in _addresses(interfaces)
        if (not interface or name == interface)
        and not (address.is_loopback or address.is_unspecified or address.is_multicast)
        and (link_local or not address.is_link_local)
    }
    ordered = sorted(found, key=lambda a: (a.is_link_local, a.version, int(a)))
    return tuple(str(address) for address in ordered)[:MAX_ADDRESSES]


def zones(interface: str = "", interfaces: Interfaces = system.interface_addresses) -> tuple[str, ...]:
    """Return the interfaces through which a link-local IPv6 address may be reached: those that have one themselves."""
    names = [
        name
        for name, address in _addresses(interfaces)
        if address.version == 6 and address.is_link_local and (not interface or name == interface)
    ]
    return tuple(dict.fromkeys(names))[:MAX_ZONES]


def name_of(index: int) -> str:
    """Return the name of the interface with this number in the kernel; empty: there is none (any more)."""
    try:
        return socket.if_indextoname(index) if index else ""
    except OSError:
        return ""


def towards(sockaddr: tuple[Any, ...], interfaces: Interfaces = system.interface_addresses) -> str:
    """Return the interface that a packet to that address would leave through; empty: unknown. Connecting a UDP socket
    sends nothing: it asks the kernel which address it would use."""
    family = socket.AF_INET6 if ":" in str(sockaddr[0]) else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect(sockaddr)
            own = ipaddress.ip_address(str(asking.getsockname()[0]).partition("%")[0])
    except (OSError, ValueError):
        return ""
    return next((name for name, address in _addresses(interfaces) if address == own), "")


def chosen_link(bind_host: str, interface: str, interfaces: Interfaces = system.interface_addresses) -> bool:
    """Return whether the owner has chosen a direct cable: an address of one, or an interface that has no other
    addresses."""
    if is_link_local(bind_host):
        return True
    of_it = [address for name, address in _addresses(interfaces) if name == interface]
    return bool(of_it) and all(address.is_link_local for address in of_it)


def is_link_local(host: str) -> bool:
    """Return whether this is an address of one link, with or without its zone."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_link_local
    except ValueError:
        return False


def _addresses(interfaces: Interfaces) -> Iterator[tuple[str, IP]]:
    """Return (interface, address without zone). If the system does not report any, the collector still sees one."""
    for name, entries in (Readings().ask("addresses", interfaces) or {}).items():
        for entry in entries:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                try:
                    yield name, ipaddress.ip_address(entry.address.partition("%")[0])
                except ValueError:
                    continue
