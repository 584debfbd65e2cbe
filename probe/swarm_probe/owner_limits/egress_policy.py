"""Decide which addresses this probe may send to, whatever a collector says.

Two rules, both kept here and not by the collector, which may be hostile:

1. **Kinds of address.** Only globally routable ones, unless its owner says `--lan`, or joined a collector at a private
   address (then also private ones) or on this very machine (then also loopback). Never a group, a broadcast address or
   a well-known port: those belong to somebody's service, not to a probe.
2. **Consent.** An address is measured once an answer signed for this pair of members has come from it, and for a minute
   after the latest. Until then it is asked: some small packets, which a NAT needs to be opened, then one a second and
   ever only so many to all that have not answered together. Who never answers is as good as left alone.

Every packet of this program to another member passes here. Pure: time is passed in.
"""

from __future__ import annotations

import enum
import ipaddress
from collections import OrderedDict
from typing import Final

from swarm_probe.sockets import Target
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_S

CONSENT_NS: Final = 60 * NS_PER_S
ASKS: Final = 60.0  # at once of one address: two bursts of hole punching
ASKS_PER_S: Final = 1.0  # to one address
ALL_ASKS: Final = 300.0  # at once of all addresses that have not answered
ALL_ASKS_PER_S: Final = 20.0
DIALS: Final = 5.0  # at once to one address; a connection that nobody answers is three packets, or five since Linux 6.5
DIALS_PER_S: Final = 0.1
ALL_DIALS: Final = 60.0
ALL_DIALS_PER_S: Final = 2.0
FIRST_PORT: Final = 1024
MAX_TOLD: Final = 64
MAX_KNOWN: Final = 4096  # addresses kept; a hostile plan must not fill the memory


class Scope(enum.IntEnum):
    INTERNET = 0
    LAN = 1  # and private addresses
    HOST = 2  # and loopback


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None for a name, or for a zone of a link."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or (None if address.scope_id else address)
    return address


def scope_of(collector: str, *, lan: bool) -> Scope:
    """What may be measured for a collector that was reached at this address."""
    address = address_of(collector)
    if address is not None and address.is_loopback:
        return Scope.HOST
    return Scope.LAN if lan or (address is not None and not address.is_global) else Scope.INTERNET


class EgressPolicy:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.collector = ""  # the one joined: any port of it, as its owner chose it
        self._asks = _Asks(ASKS_PER_S, ASKS, TokenBucket(ALL_ASKS_PER_S, ALL_ASKS))
        self._dials = _Asks(DIALS_PER_S, DIALS, TokenBucket(ALL_DIALS_PER_S, ALL_DIALS))
        self._told: set[str] = set()
        self._until: OrderedDict[str, int] = OrderedDict()  # host → until when it consents

    def why_not(self, host: str, port: int) -> str | None:
        """None: it may be sent to; else why not, in a few words."""
        if host == self.collector and host:
            return None
        address = address_of(host)
        if address is None or address.is_multicast or address.is_unspecified or address.is_link_local:
            return "it is no address of a single machine"
        if address.is_loopback:  # first: ::1 is in a reserved block
            if self.scope < Scope.HOST:
                return "it is this machine itself"
        elif address.is_reserved:
            return "it is no address of a single machine"
        elif not address.is_global and self.scope < Scope.LAN:
            return "it is a private address, and --lan was not given"
        return f"port {port} belongs to a well-known service" if port < FIRST_PORT else None

    def is_news(self, host: str) -> bool:
        """Whether to log this address now; the same plan comes many times."""
        if host in self._told or len(self._told) >= MAX_TOLD:
            return False
        self._told.add(host)
        return True

    def permits(self, to: Target) -> bool:
        return self.why_not(to.sockaddr[0], to.sockaddr[1]) is None

    def consents(self, to: Target, now_ns: int) -> bool:
        """Whether an answer from there came lately."""
        return now_ns < self._until.get(to.sockaddr[0], 0)

    def may_send(self, to: Target, now_ns: int) -> bool:
        """Whether to send there now: it consents, or may be asked once more (which is then counted)."""
        return self.permits(to) and (self.consents(to, now_ns) or self._asks.take(to.sockaddr[0], now_ns))

    def may_dial(self, to: Target, now_ns: int) -> bool:
        """The same of a TCP connection."""
        return self.permits(to) and (self.consents(to, now_ns) or self._dials.take(to.sockaddr[0], now_ns))

    def answered(self, source: Target, now_ns: int) -> None:
        """Something signed for this pair, in answer to what was sent, came from there."""
        host = source.sockaddr[0]
        self._until.pop(host, None)
        self._until[host] = now_ns + CONSENT_NS
        if len(self._until) > MAX_KNOWN:
            self._until.popitem(last=False)


class _Asks:
    """What those who have not answered are sent: so much each, and so much all together."""

    def __init__(self, per_s: float, burst: float, together: TokenBucket) -> None:
        self._per_s, self._burst, self._together = per_s, burst, together
        self._each: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, host: str, now_ns: int) -> bool:
        bucket = self._each.pop(host, None) or TokenBucket(self._per_s, self._burst)
        self._each[host] = bucket
        if len(self._each) > MAX_KNOWN:
            self._each.popitem(last=False)
        return bucket.take(now_ns) and self._together.take(now_ns)
