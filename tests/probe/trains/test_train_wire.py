"""Packets and reports of trains: they come back as they were, and no protocol of the same port is taken for another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.trains import wire
from swarm_protocol.packets import stamp_packet, stun_packet

packets = st.builds(
    wire.Packet, st.binary(min_size=8, max_size=8), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1)
)


@given(packets, st.binary(max_size=1400))
def test_a_packet_comes_back_and_is_no_other_protocols(packet: wire.Packet, filler: bytes) -> None:
    data = wire.encode_packet(packet, filler)
    assert wire.is_train(data)
    assert wire.decode_packet(data) == packet
    assert data[0] & 0xC0 == 0  # RFC 9443: QUIC's begin with a bit of these
    if packet.token[:4] != b"\x21\x12\xa4\x42":
        assert not stun_packet.is_stun(data)


@given(st.integers(0, 2**30 - 1), st.integers(1, 2**64 - 1))
def test_neither_stun_nor_stamp_is_taken_for_a_train(seq: int, ntp: int) -> None:
    """STAMP's sequence numbers would have to pass 89 million: three years at a packet a second."""
    request = stamp_packet.encode_sender(stamp_packet.SenderPacket(seq, ntp, 1, 5, follow_up=True), b"k" * 32)
    assert wire.is_train(request) == (request[:4] == wire.MAGIC)
    assert not wire.is_train(stun_packet.encode_indication(bytes(stun_packet.ID_BYTES)))


arrivals = st.dictionaries(st.integers(0, 999), st.integers(0, 4 * 10**9), max_size=200)


@given(arrivals, st.integers(0, 2**20), st.integers(-(10**18), 10**18))
def test_a_report_comes_back_counted_from_its_first_packet(found: dict[int, int], dropped: int, at_ns: int) -> None:
    reported = [(number, at_ns + ns) for number, ns in found.items()]
    data = wire.encode_report(reported, dropped)
    count, lost = wire.decode_report_head(data[: wire.REPORT_BYTES])
    assert (count, lost) == (len(reported), min(dropped, 2**16 - 1))
    first_ns = min((ns for _, ns in reported), default=0)
    back = wire.decode_arrivals(data[wire.REPORT_BYTES :], 1000)
    assert back == [(number, ns - first_ns) for number, ns in reported]


@given(st.binary(max_size=60).map(lambda data: data[: len(data) // wire.ARRIVAL_BYTES * wire.ARRIVAL_BYTES]))
def test_a_report_of_packets_that_were_not_sent_or_of_one_twice_is_cut(data: bytes) -> None:
    numbers = [number for number, _ in wire.decode_arrivals(data, 5)]
    assert len(set(numbers)) == len(numbers)
    assert all(number < 5 for number in numbers)


@given(st.binary(min_size=wire.ORDER_BYTES, max_size=wire.ORDER_BYTES))
def test_any_order_is_known_or_refused(data: bytes) -> None:
    try:
        order, train, size = wire.decode_order(data)
    except ValueError:
        return
    assert wire.encode_order(order, train, size) == data


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="9"):
        wire.decode_order(b"\x09" + bytes(wire.ORDER_BYTES - 1))
