"""Decide which addresses this probe may send to, whatever a collector says.

Two rules, both enforced here and not by the collector, which may be hostile:

1. **Kinds of address.** Only globally routable ones, unless the owner gives `--lan`, or joined a collector at a private
   address (then also private ones), at a link-local one (then also those: a direct cable) or on this machine (then also
   loopback). Never a group, a broadcast address, a well-known port or a cloud's metadata service: those belong to a
   service, not to a probe.
2. **Consent.** An address is measured once an answer signed for this pair of members has come from it, and for a minute
   after the latest. Until then it gets a few small packets, which a NAT needs to be opened, then one a second, within a
   limit over all addresses that have not answered. An address that never answers gets almost nothing.

Every packet of this program to another member passes here. Pure: time is passed in.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from collections import OrderedDict
from typing import Final, Literal

from swarm_probe.sockets import Target
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_S

CONSENT_NS: Final = 60 * NS_PER_S
ASKS: Final = 60.0  # in one burst to one address: two bursts of hole punching
ASKS_PER_S: Final = 1.0  # to one address
ALL_ASKS: Final = 300.0  # in one burst to all addresses that have not answered
ALL_ASKS_PER_S: Final = 20.0
DIALS: Final = 5.0  # in one burst to one address; an unanswered connection is three packets, or five since Linux 6.5
DIALS_PER_S: Final = 0.1
ALL_DIALS: Final = 60.0
ALL_DIALS_PER_S: Final = 2.0
FIRST_PORT: Final = 1024
MAX_TOLD: Final = 64
MAX_KNOWN: Final = 4096  # remembered addresses; a hostile plan must not fill the memory

# Where a cloud tells a machine its secrets (AWS, Azure, Google; ECS tasks): on the link, and never a member.
_METADATA: Final = tuple(map(ipaddress.ip_network, ("169.254.169.0/24", "169.254.170.0/24", "fd00:ec2::/32")))
# RFC 3927, section 2.1: no machine has these; the last one is the link's broadcast address
_RESERVED: Final = tuple(map(ipaddress.ip_network, ("169.254.0.0/24", "169.254.255.0/24")))
LINK_LOCAL: Final = "it is a link-local address (a direct cable), and --lan was not given"
_Kind = Literal["none", "metadata", "loopback", "link-local", "private", "global"]


class Scope(enum.IntEnum):
    INTERNET = 0
    LAN = 1  # and private addresses
    HOST = 2  # and loopback


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address; None for a name, and for a zone on an address that is not link-local."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or (None if address.scope_id and not address.is_link_local else address)
    return address


def scope_of(collector: str, *, lan: bool) -> Scope:
    """Return what may be measured for a collector that was reached at this address."""
    address = address_of(collector)
    if address is not None and address.is_loopback:
        return Scope.HOST
    return Scope.LAN if lan or (address is not None and not address.is_global) else Scope.INTERNET


def links_allowed(collector: str, *, chosen: bool) -> bool:
    """Return whether link-local addresses may be measured for a collector that was reached at this address. `chosen`:
    the owner chose it."""
    address = address_of(collector)
    return chosen or (address is not None and address.is_link_local)


class EgressPolicy:
    def __init__(self, scope: Scope, *, links: bool = False) -> None:
        """`links`: whether link-local addresses may be measured, too."""
        self.scope = scope
        self.links = links
        self.interface = ""  # the only one that is sent through; empty: any
        self.collector = ""  # the joined one: any port of it, since the owner chose it
        self._asks = _Asks(ASKS_PER_S, ASKS, TokenBucket(ALL_ASKS_PER_S, ALL_ASKS))
        self._dials = _Asks(DIALS_PER_S, DIALS, TokenBucket(ALL_DIALS_PER_S, ALL_DIALS))
        self._told: set[str] = set()
        self._until: OrderedDict[str, int] = OrderedDict()  # host → until when it consents

    def why_not(self, host: str, port: int) -> str | None:
        """Return why an address may not be sent to, in a few words; None: it may."""
        if host == self.collector and host:
            return None
        kind = _kind_of(host)
        if kind == "none":
            return "it is not the address of a single machine"
        if kind == "metadata":
            return "it may be a cloud's metadata service"
        if kind == "loopback" and self.scope < Scope.HOST:
            return "it is this machine itself"
        if kind == "link-local" and not self.links:
            return LINK_LOCAL
        if kind == "private" and self.scope < Scope.LAN:
            return "it is a private address, and --lan was not given"
        return f"port {port} belongs to a well-known service" if port < FIRST_PORT else None

    def is_news(self, host: str) -> bool:
        """Return whether to log this address now; the same plan comes many times."""
        if host in self._told or len(self._told) >= MAX_TOLD:
            return False
        self._told.add(host)
        return True

    def permits(self, to: Target) -> bool:
        return self.why_not(to.sockaddr[0], to.sockaddr[1]) is None

    def consents(self, to: Target, now_ns: int) -> bool:
        """Return whether an answer from there came lately."""
        return now_ns < self._until.get(to.sockaddr[0], 0)

    def may_send(self, to: Target, now_ns: int) -> bool:
        """Return whether to send there now: it consents, or may be tried once more (which is then counted)."""
        return self.permits(to) and (self.consents(to, now_ns) or self._asks.take(to.sockaddr[0], now_ns))

    def may_dial(self, to: Target, now_ns: int) -> bool:
        """Return the same for a TCP connection."""
        return self.permits(to) and (self.consents(to, now_ns) or self._dials.take(to.sockaddr[0], now_ns))

    def answered(self, source: Target, now_ns: int) -> None:
        """Note that an answer signed for this pair came from there."""
        host = source.sockaddr[0]
        self._until.pop(host, None)
        self._until[host] = now_ns + CONSENT_NS
        if len(self._until) > MAX_KNOWN:
            self._until.popitem(last=False)


@functools.lru_cache(maxsize=MAX_KNOWN)  # asked twice for each packet; parsing takes longer than signing
def _kind_of(host: str) -> _Kind:
    """Return what an address is by itself; "none": not that of a single machine."""
    address = address_of(host)
    if address is None or address.is_multicast or address.is_unspecified or _in(address, _RESERVED):
        return "none"
    if _in(address, _METADATA):
        return "metadata"
    if address.is_loopback:  # first: ::1 is in a reserved block
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_reserved:
        return "none"
    return "global" if address.is_global else "private"


def _in(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...],
) -> bool:
    return any(address.version == network.version and address in network for network in networks)


class _Asks:
    """Limits for addresses that have not answered: for each, and for all together."""

    def __init__(self, per_s: float, burst: float, together: TokenBucket) -> None:
        self._per_s, self._burst, self._together = per_s, burst, together
        self._each: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, host: str, now_ns: int) -> bool:
        bucket = self._each.pop(host, None) or TokenBucket(self._per_s, self._burst)
        self._each[host] = bucket
        if len(self._each) > MAX_KNOWN:
            self._each.popitem(last=False)
        return bucket.take(now_ns) and self._together.take(now_ns)
