"""Keep the NAT status of the probe's UDP port up to date, with the logic of `nat_discovery`.

Reports each change of the finding; the collector derives from it the addresses that other members try.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections import Counter
from collections.abc import Callable
from typing import Final

from swarm_probe.clocks import Clocks
from swarm_probe.operating_system.interfaces import addresses
from swarm_probe.sockets import Target, target
from swarm_probe.udp.nat_discovery import Finding, NatWatch
from swarm_probe.udp.udp_socket import Arrival, UdpPort
from swarm_protocol.messages.samples import NatKind
from swarm_protocol.packets.stun_packet import Endpoint
from swarm_protocol.units import NS_PER_S

PEERS_LATELY_NS: Final = 60 * NS_PER_S

WORDS: Final[dict[NatKind | None, str]] = {
    None: "not known",
    "none": "no NAT",
    "endpoint-independent": "a NAT that holes can be punched through",
    "symmetric": "a hard (symmetric) NAT",
    "udp-blocked": "UDP is blocked",
}

log = logging.getLogger(__name__)


class Reachability:
    def __init__(self, udp: UdpPort, counts: Counter[str], clocks: Clocks, bind_host: str, interface: str = "") -> None:
        self.on_change: Callable[[Finding], None] = lambda _: None
        self._udp = udp
        self._counts = counts
        self._clocks = clocks
        self._bind_host, self._interface = bind_host, interface
        self._watch = NatWatch(os.urandom)
        self._servers: tuple[Target, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self._reported = Finding(None)
        self._peer_answered_ns: int | None = None

    def joined(self, collector: str, ports: tuple[int, ...]) -> None:
        """Note a collector at this address that answers STUN on these ports; without ports nothing is discovered."""
        found = [target(collector, port) for port in ports if port]
        self._servers = tuple(each for each in found if each is not None and self._udp.has(each.family))
        own = [
            Endpoint(host, self._udp.port)
            for host in addresses(self._bind_host, interface=self._interface, link_local=True)
        ]
        now_ns = self._clocks.mono_ns()
        loopback = bool(self._servers) and ipaddress.ip_address(self._servers[0].sockaddr[0]).is_loopback
        self._watch.start(len(self._servers), own, now_ns, loopback=loopback)
        self._reported = Finding(None)  # each session gets the finding, changed or not
        self._go_on()

    def recheck(self) -> None:
        """Check again: a path is gone, and perhaps our own router has restarted."""
        self._watch.recheck(self._clocks.mono_ns())
        self._go_on()

    def peer_answered(self, now_ns: int) -> None:
        self._peer_answered_ns = now_ns

    def finding(self) -> Finding:
        now_ns = self._clocks.mono_ns()
        lately = self._peer_answered_ns is not None and now_ns - self._peer_answered_ns < PEERS_LATELY_NS
        return self._watch.finding(now_ns, peers_answer=lately)

    def receive(self, arrival: Arrival) -> None:
        """Take a STUN message; a peer's keepalive is one too, and says nothing."""
        at_ns = arrival.wall_ns - self._clocks.offset_ns()
        if self._watch.receive(arrival.data, at_ns):
            self._counts["stun_answers"] += 1
            self._go_on()
        else:
            self._counts["stun_other"] += 1

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        """Send what is due, report what has changed, and set the one timer."""
        self.close()
        now_ns = self._clocks.mono_ns()
        for ask in self._watch.poll(now_ns):
            if self._udp.send(ask.data, self._servers[ask.server]) is None:
                self._counts["stun_asked"] += 1
        found = self.finding()
        half = found.nat is None and self._watch.pending
        if (found.nat, found.mapped) != (self._reported.nat, self._reported.mapped) and not half:
            log.info("UDP as the collector sees it: %s", WORDS[found.nat])
            self._reported = found
            self.on_change(found)
        due_ns = self._watch.next_ns()
        if due_ns is not None:
            delay_s = max(0, due_ns - self._clocks.mono_ns()) / NS_PER_S
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._go_on)
