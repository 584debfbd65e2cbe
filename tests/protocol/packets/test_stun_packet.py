"""STUN Binding: the vectors of RFC 5769, the way there and back, and any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.packets import stun_packet
from swarm_protocol.packets.stun_packet import Endpoint, Message, StunError

# RFC 5769 §2.2 and §2.3, without MESSAGE-INTEGRITY's check: its attribute is one that need not be understood here
ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
ADDRESS_V4 = bytes.fromhex("002000080001a147e112a643")
ADDRESS_V6 = bytes.fromhex("002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9")
SOFTWARE = bytes.fromhex("8022000b7465737420766563746f7220")
endpoints = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(1, 65535)),
    st.tuples(st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None), st.integers(1, 65535)),
).map(lambda pair: Endpoint(str(pair[0]), pair[1]))
ids = st.binary(min_size=12, max_size=12)


def success(body: bytes) -> bytes:
    return b"\x01\x01" + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442") + ID + body


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        (ADDRESS_V4, Endpoint("192.0.2.1", 32853)),
        (ADDRESS_V6, Endpoint("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_the_addresses_of_rfc_5769(address: bytes, endpoint: Endpoint):
    assert stun_packet.decode(success(SOFTWARE + address)) == Message("success", ID, endpoint)
    assert stun_packet.encode_success(ID, endpoint, fingerprint=False) == success(address)


def test_the_whole_request_of_rfc_5769_with_its_fingerprint():
    """§2.1: SOFTWARE, PRIORITY, ICE-CONTROLLED, USERNAME, MESSAGE-INTEGRITY and a FINGERPRINT that is right."""
    request = bytes.fromhex(
        "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74"
        "002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249"
        "c1b571a280280004e57a3bcf"
    )
    assert stun_packet.decode(request) == Message("request", ID, unknown=(0x0024,))  # PRIORITY is none of ours
    with pytest.raises(StunError, match="wrong FINGERPRINT"):
        stun_packet.decode(request.replace(b"evtj", b"evtk"))


def test_an_attribute_that_must_be_understood_is_refused_by_name():
    request = b"\x00\x01\x00\x08" + bytes.fromhex("2112a442") + ID + bytes.fromhex("7ff0000400000000")
    refusal = stun_packet.answer(request, Endpoint("192.0.2.1", 1))
    assert refusal is None  # 40 bytes for 28 would be an amplifier
    padded = request[:2] + b"\x00\x28" + request[4:] + bytes.fromhex("0026001c") + bytes(28)
    assert stun_packet.answer(padded, Endpoint("192.0.2.1", 1)) == bytes.fromhex(
        "01110010" + "2112a442" + ID.hex() + "00090004" + "00000414" + "000a0002" + "7ff00000"
    )


@given(ids, endpoints)
def test_no_answer_is_longer_than_a_request_of_ours(transaction: bytes, seen: Endpoint):
    request = stun_packet.encode_request(transaction)
    made = stun_packet.answer(request, seen)
    assert made is not None
    assert len(made) <= len(request)
    assert stun_packet.decode(made) == Message("success", transaction, seen)


@given(st.binary(max_size=80), endpoints)
def test_no_bytes_of_a_stranger_are_answered_with_more_than_an_address(data: bytes, seen: Endpoint):
    """Bare requests of 20 bytes are what other programs send; all else is answered with no more than came."""
    for asked in (data, b"\x00\x01" + len(data[20:]).to_bytes(2, "big") + bytes.fromhex("2112a442") + data[8:]):
        made = stun_packet.answer(asked, seen)
        if made is not None and len(made) > len(asked):
            assert len(made) - len(asked) <= (12 if "." in seen.host else 24)


@given(st.binary(max_size=120))
def test_any_bytes_are_a_message_or_an_error(data: bytes):
    for tried in (data, b"\x01\x01" + data[2:4] + bytes.fromhex("2112a442") + data[8:]):
        try:
            found = stun_packet.decode(tried)
        except StunError:
            continue
        assert stun_packet.is_stun(tried)
        assert len(found.transaction) == 12


@given(ids, endpoints, st.data())
def test_every_cut_and_every_flipped_bit_is_noticed(transaction: bytes, seen: Endpoint, data: st.DataObject):
    whole = stun_packet.encode_success(transaction, seen)
    with pytest.raises(StunError):
        stun_packet.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])
    bit = data.draw(st.integers(0, 8 * (len(whole) - 8) - 1))  # up to where the checksum begins
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StunError):
        stun_packet.decode(bytes(flipped))


def test_neither_stamp_nor_quic_is_taken_for_stun():
    """All three share the probe's port (RFC 9443)."""
    assert not stun_packet.is_stun(bytes(112))
    assert not stun_packet.is_stun(b"\xc3" + bytes(3) + bytes.fromhex("2112a442") + bytes(40))
    assert stun_packet.is_stun(stun_packet.encode_indication(ID))
