"""Emulate the internet: take packets and the time, return packets and their times. Pure.

A packet from a to b waits for a's uplink (with its rate and queue), may be lost, travels access(a) + city + access(b)
plus jitter, waits for b's downlink, and is due. Rates are enforced for each packet: it occupies its link for
size·8/rate, even a single small message (which token buckets would let through unshaped).
"""

from __future__ import annotations

import heapq
import ipaddress
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from swarm_lab.emulation.delay_models import Jitter, JitterSource, Loss, LossSource
from swarm_lab.emulation.home_nat import Nat
from swarm_lab.emulation.packets import UDP, protocol_of
from swarm_lab.emulation.scenario import Access, Event, Scenario, access_of
from swarm_lab.emulation.truth import PacketOutcome
from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.units import NS_PER_MS

OUTSIDE = ipaddress.IPv4Network("198.18.0.0/16")  # RFC 2544: for tests of network devices, routed nowhere
INSIDE = ipaddress.IPv4Network("10.77.0.0/16")  # of a host behind a NAT

Recorder = Callable[[bytes, int, int, int, PacketOutcome, int, int], None]  # packet, src, dst, in, fate, intended, out


@dataclass(slots=True)
class _Line:
    """One direction of a host's access link."""

    ns_per_byte: float
    queue_ns: int
    free_ns: int = 0  # when the last accepted packet has left

    def pass_through(self, now_ns: int, size_bytes: int) -> int | None:
        """Return when the packet has left the link; None if the queue is full."""
        start_ns = max(now_ns, self.free_ns)
        if start_ns - now_ns > self.queue_ns:
            return None
        self.free_ns = start_ns + round(size_bytes * self.ns_per_byte)
        return self.free_ns


@dataclass(slots=True)
class _Host:
    access: Access
    up: _Line
    down: _Line
    nat: Nat | None
    udp_blocked: bool
    jitter: JitterSource
    loss: LossSource
    present: bool = True
    side: int = 0  # of a partition: hosts of different sides do not reach each other


@dataclass(slots=True)
class _Pair:
    city_ns: int
    jitter: JitterSource
    loss: LossSource
    reorder: bool = False
    last_ns: int = 0  # when the packet before arrives: order is kept


@dataclass(frozen=True, slots=True)
class Delivery:
    """A packet that is due at a host now. Pass it to `delivered` with the time at which it was really written."""

    host: int
    packet: bytes
    src: int
    in_ns: int
    intended_ns: int


class Emulator:
    def __init__(self, scenario: Scenario, delays_ms: Floats, record: Recorder) -> None:
        """Create it. `delays_ms`: one way between the hosts' exchanges, shape (n, n), from scenario.city_delays_ms."""
        self._rng = np.random.default_rng(scenario.seed)
        self._record = record
        self.names = scenario.names()
        self._hosts = [
            _Host(
                access=(access := access_of(host)),
                up=_Line(8000 / access.up_mbps, round(access.queue_ms * NS_PER_MS)),
                down=_Line(8000 / access.down_mbps, round(access.queue_ms * NS_PER_MS)),
                nat=None if host.nat in ("none", "udp-blocked") else Nat(host.nat, outside_address(index)),
                udp_blocked=host.nat == "udp-blocked",
                jitter=JitterSource(access.jitter, self._rng),
                loss=LossSource(access.loss, self._rng),
            )
            for index, host in enumerate(scenario.host)
        ]
        n = len(self._hosts)
        self._pairs = [
            [_Pair(round(delays_ms[i, j] * NS_PER_MS), self._jitter(Jitter()), self._loss(Loss())) for j in range(n)]
            for i in range(n)
        ]
        self._by_address = {outside_address(i): i for i in range(n)}
        self._heap: list[tuple[int, int, int, int, int, bytes, int, bool]] = []
        self._count = 0
        for line in scenario.path:
            self._set_path(line.src, line.dst, line.delay_ms, line.jitter, line.loss, line.reorder)
            if line.both:
                self._set_path(line.dst, line.src, line.delay_ms, line.jitter, line.loss, line.reorder)

    def _jitter(self, law: Jitter) -> JitterSource:
        return JitterSource(law, self._rng)

    def _loss(self, law: Loss) -> LossSource:
        return LossSource(law, self._rng)

    # ------------------------------------------------------------ packets

    def offer(self, now_ns: int, host: int, packet: bytes) -> None:
        """Take a packet that `host` has just sent."""
        sender = self._hosts[host]
        if len(packet) < 20 or packet[0] >> 4 != 4 or not sender.present:
            return
        target = self._by_address.get(packet[16:20])
        if target is None or target == host:
            return
        if sender.udp_blocked and protocol_of(packet) == UDP:
            self._record(packet, host, target, now_ns, PacketOutcome.FILTERED, 0, 0)
            return
        if sender.nat is not None:
            translated = sender.nat.outbound(packet, now_ns)
            if translated is None:
                self._record(packet, host, target, now_ns, PacketOutcome.FILTERED, 0, 0)
                return
            packet = translated
        left_ns = sender.up.pass_through(now_ns, len(packet))
        if left_ns is None:
            self._record(packet, host, target, now_ns, PacketOutcome.UP_QUEUE, 0, 0)
            return
        receiver, pair = self._hosts[target], self._pairs[host][target]
        # every model draws for every packet, so that a seed gives the same losses whatever else is set
        lost = sender.loss.next_is_lost() | pair.loss.next_is_lost() | receiver.loss.next_is_lost()
        late_ns = sender.jitter.next_ns() + pair.jitter.next_ns() + receiver.jitter.next_ns()
        if lost:
            self._record(packet, host, target, now_ns, PacketOutcome.LOST, 0, 0)
            return
        access_ns = round((sender.access.delay_ms + receiver.access.delay_ms) * NS_PER_MS)
        arrives_ns = left_ns + access_ns + pair.city_ns + late_ns
        if not pair.reorder:
            arrives_ns = pair.last_ns = max(arrives_ns, pair.last_ns)
        self._push(arrives_ns, target, host, packet, now_ns, due=False)

    def _push(self, at_ns: int, target: int, src: int, packet: bytes, in_ns: int, *, due: bool) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at_ns, self._count, target, src, len(packet), packet, in_ns, due))

    def next_ns(self) -> int | None:
        """Return when `due` has something to do; None: when a packet is offered."""
        return self._heap[0][0] if self._heap else None

    def due(self, now_ns: int) -> Iterator[Delivery]:
        """Yield everything that is due by now, in order."""
        while self._heap and self._heap[0][0] <= now_ns:
            at_ns, _, target, src, _, packet, in_ns, due = heapq.heappop(self._heap)
            if due:
                yield Delivery(target, packet, src, in_ns, at_ns)
            else:
                self._arrive(at_ns, target, src, packet, in_ns)

    def _arrive(self, at_ns: int, target: int, src: int, packet: bytes, in_ns: int) -> None:
        receiver = self._hosts[target]
        if not receiver.present or receiver.side != self._hosts[src].side:
            self._record(packet, src, target, in_ns, PacketOutcome.CUT, 0, 0)
            return
        if receiver.udp_blocked and protocol_of(packet) == UDP:
            self._record(packet, src, target, in_ns, PacketOutcome.FILTERED, 0, 0)
            return
        if receiver.nat is not None:
            translated = receiver.nat.inbound(packet, at_ns)
            if translated is None:
                self._record(packet, src, target, in_ns, PacketOutcome.FILTERED, 0, 0)
                return
            packet = translated
        done_ns = receiver.down.pass_through(at_ns, len(packet))
        if done_ns is None:
            self._record(packet, src, target, in_ns, PacketOutcome.DOWN_QUEUE, 0, 0)
            return
        self._push(done_ns, target, src, packet, in_ns, due=True)

    def delivered(self, delivery: Delivery, out_ns: int, *, taken: bool) -> None:
        """Record a delivery. `taken` False: the host's interface refused it."""
        fate = PacketOutcome.DELIVERED if taken else PacketOutcome.CUT
        self._record(delivery.packet, delivery.src, delivery.host, delivery.in_ns, fate, delivery.intended_ns, out_ns)

    # ------------------------------------------------------------ the timeline

    def apply(self, event: Event) -> None:
        """Apply changes of the network; `lab` handles those of machines (freeze, cpu)."""
        if event.action == "path":
            assert event.src is not None
            assert event.dst is not None
            self._set_path(event.src, event.dst, event.delay_ms, event.jitter, event.loss, None)
        elif event.action == "access":
            for index in self._rows(event.host):
                self._set_access(self._hosts[index], event)
        elif event.action == "cut":
            for name in event.hosts:
                self._hosts[self.names.index(name)].side = 1
        elif event.action == "heal":
            for host in self._hosts:
                host.side = 0
        elif event.action == "rebind":
            for index in self._rows(event.host):
                if (nat := self._hosts[index].nat) is not None:
                    nat.rebind()
        elif event.action in ("leave", "join"):
            for index in self._rows(event.host):
                self._hosts[index].present = event.action == "join"

    def _rows(self, name: str | None) -> range | list[int]:
        return range(len(self._hosts)) if name in (None, "*") else [self.names.index(str(name))]

    def _set_path(
        self,
        src: str,
        dst: str,
        delay_ms: float | None,
        jitter: Jitter | None,
        loss: Loss | None,
        reorder: bool | None,
    ) -> None:
        for i in self._rows(src):
            for j in self._rows(dst):
                pair = self._pairs[i][j]
                if delay_ms is not None:
                    pair.city_ns = round(delay_ms * NS_PER_MS)
                if jitter is not None:
                    pair.jitter = self._jitter(jitter)
                if loss is not None:
                    pair.loss = self._loss(loss)
                if reorder is not None:
                    pair.reorder = reorder

    def _set_access(self, host: _Host, event: Event) -> None:
        if event.delay_ms is not None:
            host.access = msgspec.structs.replace(host.access, delay_ms=event.delay_ms)
        if event.up_mbps is not None:
            host.up.ns_per_byte = 8000 / event.up_mbps
        if event.down_mbps is not None:
            host.down.ns_per_byte = 8000 / event.down_mbps
        if event.queue_ms is not None:
            host.up.queue_ns = host.down.queue_ns = round(event.queue_ms * NS_PER_MS)
        if event.jitter is not None:
            host.jitter = self._jitter(event.jitter)
        if event.loss is not None:
            host.loss = self._loss(event.loss)


def outside_address(index: int) -> bytes:
    """Return the address of host `index` as the internet sees it: 4 bytes."""
    return socket.inet_aton(str(_nth(OUTSIDE, index)))


def own_address(scenario: Scenario, index: int) -> str:
    """Return the address of the host's own interface: a private one behind a NAT."""
    behind = scenario.host[index].nat in ("endpoint-independent", "symmetric")
    return str(_nth(INSIDE if behind else OUTSIDE, index))


def _nth(network: ipaddress.IPv4Network, index: int) -> ipaddress.IPv4Address:
    return network[index // 200 * 256 + index % 200 + 10]


def public_address(index: int) -> str:
    return socket.inet_ntoa(outside_address(index))
