"""The lab's home routers map and filter as RFC 4787 defines; hole punching is tested against them."""

from __future__ import annotations

import socket

import wire

from swarm_lab.emulation.home_nat import IDLE_NS, Nat
from swarm_lab.emulation.packets import UDP, ports

OUTSIDE = socket.inet_aton("198.18.0.10")
INSIDE = ("10.77.0.10", 4000)
FRIEND, STRANGER = ("198.18.0.11", 5000), ("198.18.0.12", 6000)


def outside_port(nat: Nat, to: tuple[str, int], now_ns: int = 0) -> int:
    packet = nat.outbound(wire.udp(INSIDE, to), now_ns)
    assert packet is not None
    assert packet[12:16] == OUTSIDE
    return ports(packet)[0]


def test_endpoint_independent_keeps_one_port_and_lets_in_only_who_was_written_to():
    nat = Nat("endpoint-independent", OUTSIDE)
    port = outside_port(nat, FRIEND)
    assert outside_port(nat, STRANGER) == port
    nat = Nat("endpoint-independent", OUTSIDE)
    port = outside_port(nat, FRIEND)
    assert nat.inbound(wire.udp(STRANGER, ("198.18.0.10", port)), 1) is None
    answer = nat.inbound(wire.udp(FRIEND, ("198.18.0.10", port)), 1)
    assert answer is not None
    assert (socket.inet_ntoa(answer[16:20]), ports(answer)[1]) == INSIDE


def test_symmetric_takes_another_port_for_each_destination():
    nat = Nat("symmetric", OUTSIDE)
    first, second = outside_port(nat, FRIEND), outside_port(nat, STRANGER)
    assert first != second
    assert nat.inbound(wire.udp(FRIEND, ("198.18.0.10", second)), 1) is None
    assert nat.inbound(wire.udp(FRIEND, ("198.18.0.10", first)), 1) is not None


def test_a_mapping_dies_of_silence_and_lives_on_keepalives():
    idle = IDLE_NS[UDP]
    nat = Nat("endpoint-independent", OUTSIDE)
    port = outside_port(nat, FRIEND)
    back = wire.udp(FRIEND, ("198.18.0.10", port))
    assert nat.inbound(back, idle) is not None
    assert nat.inbound(back, 2 * idle) is not None
    assert nat.inbound(back, 3 * idle + 1) is None


def test_a_router_that_rebinds_takes_another_port_and_lets_nobody_in_by_the_old_one():
    nat = Nat("endpoint-independent", OUTSIDE)
    old = outside_port(nat, FRIEND)
    nat.rebind()
    assert nat.inbound(wire.udp(FRIEND, ("198.18.0.10", old)), 1) is None
    new = outside_port(nat, FRIEND, 2)
    assert new != old
    assert nat.inbound(wire.udp(FRIEND, ("198.18.0.10", new)), 3) is not None
