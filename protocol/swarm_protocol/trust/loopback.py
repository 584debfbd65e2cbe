"""Decide whether a host is this machine itself, to which plain text is safe."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return True for a loopback address, IPv4 in IPv6 too, with a scope or without, or the name localhost. Other
    names: False, whatever they resolve to, since that may change."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
