"""What the router reads from a packet, and that a rewritten packet is one that a kernel accepts."""

from __future__ import annotations

import socket
import struct

import pytest
import wire
from hypothesis import given
from hypothesis import strategies as st

from swarm_lab.emulation.packets import StampTag, ports, rewrite, stamp_tag

A, B = ("10.77.0.10", 4000), ("198.18.0.11", 5000)
PORT = st.integers(1, 65535)


@pytest.mark.parametrize("build", [wire.udp, wire.tcp])
@given(payload=st.binary(max_size=60), port=PORT, address=st.binary(min_size=4, max_size=4))
def test_checksums_are_right_after_every_rewrite(build, payload, port, address):
    packet = build(A, B, payload)
    assert wire.checksums_are_right(packet)
    there = rewrite(packet, src=(address, port))
    assert there is not None
    assert wire.checksums_are_right(there)
    assert there[12:16] == address
    assert ports(there) == (port, 5000)
    back = rewrite(there, dst=(address, port))
    assert back is not None
    assert wire.checksums_are_right(back)


def test_a_udp_packet_without_checksum_stays_without():
    packet = bytearray(wire.udp(A, B, b"hello"))
    packet[26:28] = b"\x00\x00"
    changed = rewrite(bytes(packet), src=(socket.inet_aton("1.2.3.4"), 9))
    assert changed is not None
    assert changed[26:28] == b"\x00\x00"


def test_protocols_without_ports_are_not_rewritten():
    assert rewrite(wire.ipv4(A[0], B[0], 47, b"\x00" * 20), src=(b"\x01\x02\x03\x04", 1)) is None


# Layouts drawn from RFC 8762 §4.2.1, §4.2.2, §4.3.1, §4.3.2 and the session id of RFC 8972 §3
def plain(seq: int, ssid: int, received: bytes = b"", sender_seq: int = 0) -> bytes:
    tail = received + struct.pack("!I", sender_seq) if received else b""
    return (struct.pack("!IQHH", seq, 77, 1, ssid) + tail).ljust(44, b"\x00")


def signed(seq: int, ssid: int, received: bytes = b"", sender_seq: int = 0) -> bytes:
    body = struct.pack("!I12xQHH", seq, 77, 1, ssid).ljust(32, b"\x00")
    if received:
        body += received + b"\x00" * 8 + struct.pack("!I", sender_seq)
    return body.ljust(96, b"\x00") + b"\xaa" * 16


@pytest.mark.parametrize("build", [plain, signed])
def test_a_reply_is_known_by_its_receive_timestamp_and_carries_the_requests_sequence(build):
    assert stamp_tag(wire.udp(A, B, build(5, 9))) == StampTag(False, 9, 5)
    assert stamp_tag(wire.udp(B, A, build(2, 9, b"\x01" * 8, 5))) == StampTag(True, 9, 5)


def test_other_lengths_and_other_protocols_are_no_stamp():
    assert stamp_tag(wire.udp(A, B, b"x" * 43)) is None
    assert stamp_tag(wire.tcp(A, B, b"x" * 36)) is None
