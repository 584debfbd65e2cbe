"""Emulate home routers: how each maps and filters (in terms of RFC 4787), as pure tables.

`endpoint-independent`: one outside port for an inside socket, whatever the destination; lets in only addresses that it
has written to (address- and port-dependent filtering, the usual home router). `symmetric`: another outside port for
each destination. Mappings expire after `IDLE_NS` of silence in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swarm_lab.emulation.packets import UDP, ports, protocol_of, rewrite
from swarm_protocol.units import NS_PER_S

NatKind = Literal["none", "endpoint-independent", "symmetric", "udp-blocked"]
IDLE_NS = {UDP: 30 * NS_PER_S}  # as short as home routers have it, so that keepalives are put to the test
IDLE_OTHER_NS = 7440 * NS_PER_S  # RFC 5382 REQ-5, established TCP
FIRST_PORT, LAST_PORT = 20_000, 60_000

_Endpoint = tuple[bytes, int]


@dataclass(slots=True)
class _Mapping:
    outside_port: int
    inside: _Endpoint
    allowed: dict[_Endpoint, int]  # remote → last packet, ns
    used_ns: int


class Nat:
    """One host behind one router: `outbound`, `inbound` return the translated packet, None if it is dropped."""

    def __init__(self, kind: NatKind, outside: bytes) -> None:
        self.kind = kind
        self._outside = outside
        self._by_inside: dict[tuple[int, _Endpoint, _Endpoint | None], _Mapping] = {}
        self._by_port: dict[tuple[int, int], _Mapping] = {}
        self._next_port = FIRST_PORT

    def outbound(self, packet: bytes, now_ns: int) -> bytes | None:
        protocol, pair = protocol_of(packet), ports(packet)
        if pair is None:
            return None
        inside, remote = (packet[12:16], pair[0]), (packet[16:20], pair[1])
        key = (protocol, inside, remote if self.kind == "symmetric" else None)
        mapping = self._by_inside.get(key)
        if mapping is None or now_ns - mapping.used_ns > _idle_ns(protocol):
            mapping = _Mapping(self._free_port(protocol, inside[1]), inside, {}, now_ns)
            self._by_inside[key] = mapping
            self._by_port[protocol, mapping.outside_port] = mapping
        mapping.used_ns = mapping.allowed[remote] = now_ns
        return rewrite(packet, src=(self._outside, mapping.outside_port))

    def inbound(self, packet: bytes, now_ns: int) -> bytes | None:
        protocol, pair = protocol_of(packet), ports(packet)
        if pair is None:
            return None
        mapping = self._by_port.get((protocol, pair[1]))
        if mapping is None:
            return None
        seen_ns = mapping.allowed.get((packet[12:16], pair[0]))
        if seen_ns is None or now_ns - seen_ns > _idle_ns(protocol):
            return None
        mapping.used_ns = mapping.allowed[packet[12:16], pair[0]] = now_ns
        return rewrite(packet, dst=mapping.inside)

    def rebind(self) -> None:
        """Forget the UDP mappings, as after a restart too short for TCP to notice: new ports follow."""
        for key in [key for key in self._by_inside if key[0] == UDP]:
            self._by_inside.pop(key).allowed.clear()  # the port stays taken, and lets nobody in

    def _free_port(self, protocol: int, wanted: int) -> int:
        # port preservation (RFC 4787 §4.2.1) for the kind that has one port per socket
        if self.kind != "symmetric" and wanted and (protocol, wanted) not in self._by_port:
            return wanted
        for _ in range(LAST_PORT - FIRST_PORT):
            port = self._next_port
            self._next_port = FIRST_PORT + (port + 1 - FIRST_PORT) % (LAST_PORT - FIRST_PORT)
            if (protocol, port) not in self._by_port:
                return port
        oldest = min(self._by_port, key=lambda key: self._by_port[key].used_ns)
        del self._by_port[oldest]
        return oldest[1]


def _idle_ns(protocol: int) -> int:
    return IDLE_NS.get(protocol, IDLE_OTHER_NS)
