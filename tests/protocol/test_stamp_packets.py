"""STAMP packets against RFC 8762/8972 as written there, built here by hand with hashlib and int.to_bytes."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.packets import stamp_packet

KEY = bytes(range(32))
keys = st.one_of(st.none(), st.binary(min_size=16, max_size=64))
u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
senders = st.builds(stamp_packet.SenderPacket, seq=u32, sent_ntp=u64, error=u16, ssid=u16)
reflecteds = st.builds(
    stamp_packet.ReflectedPacket,
    seq=u32,
    sent_ntp=u64,
    error=u16,
    ssid=u16,
    received_ntp=u64,
    sender_seq=u32,
    sender_ntp=st.integers(1, 2**64 - 1),
    sender_error=u16,
    sender_ttl=st.integers(0, 255),
)


def hmac_by_hand(key: bytes, body: bytes) -> bytes:
    """RFC 2104 spelled out, so that the vector does not come from the code it checks."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + body).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()[:16]


# 2020-03-01 00:00:00.5 UTC: 3792009600 s after 1900
T1 = bytes.fromhex("e205798080000000")
T2 = bytes.fromhex("e205798081000000")
T3 = bytes.fromhex("e205798082000000")
SENDER = stamp_packet.SenderPacket(seq=7, sent_ntp=int.from_bytes(T1, "big"), error=0x8001, ssid=0xBEEF)
REFLECTED = stamp_packet.ReflectedPacket(
    seq=5,
    sent_ntp=int.from_bytes(T3, "big"),
    error=0x0102,
    ssid=0xBEEF,
    received_ntp=int.from_bytes(T2, "big"),
    sender_seq=7,
    sender_ntp=int.from_bytes(T1, "big"),
    sender_error=0x8001,
    sender_ttl=57,
)


def test_unauthenticated_sender_packet_is_the_one_of_rfc_8972_figure_1() -> None:
    assert stamp_packet.encode_sender(SENDER, None) == b"\0\0\0\7" + T1 + b"\x80\x01" + b"\xbe\xef" + bytes(28)


def test_authenticated_sender_packet_is_the_one_of_rfc_8972_figure_3() -> None:
    body = b"\0\0\0\7" + bytes(12) + T1 + b"\x80\x01" + b"\xbe\xef" + bytes(68)
    assert stamp_packet.encode_sender(SENDER, KEY) == body + hmac_by_hand(KEY, body)


def test_unauthenticated_reflected_packet_is_the_one_of_rfc_8972_figure_2() -> None:
    wire = (
        b"\0\0\0\5"
        + T3
        + b"\x01\x02"
        + b"\xbe\xef"
        + T2
        + b"\0\0\0\7"
        + T1
        + b"\x80\x01"
        + bytes(2)
        + b"\x39"
        + bytes(3)
    )
    assert stamp_packet.encode_reflected(REFLECTED, None) == wire
    assert len(wire) == 44


def test_authenticated_reflected_packet_is_the_one_of_rfc_8972_figure_4() -> None:
    body = (
        b"\0\0\0\5" + bytes(12) + T3 + b"\x01\x02" + b"\xbe\xef" + bytes(4) + T2 + bytes(8)
        + b"\0\0\0\7" + bytes(12) + T1 + b"\x80\x01" + bytes(2) + bytes(4) + b"\x39" + bytes(15)
    )  # fmt: skip
    assert stamp_packet.encode_reflected(REFLECTED, KEY) == body + hmac_by_hand(KEY, body)
    assert len(body) == 96


def test_hmac_vector_that_no_code_here_computed() -> None:
    """The last 16 bytes by `openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f` over the first 96."""
    assert stamp_packet.encode_sender(SENDER, KEY)[96:].hex() == "a8e279d7d06696bfc89b77584fbf47b6"


@given(senders, keys)
def test_what_a_sender_encodes_a_reflector_reads(packet: stamp_packet.SenderPacket, key: bytes | None) -> None:
    data = stamp_packet.encode_sender(packet, key)
    assert stamp_packet.decode_sender(data, key) == packet
    assert stamp_packet.peek(data) == (packet.ssid, False)


@given(reflecteds, keys)
def test_what_a_reflector_encodes_a_sender_reads(packet: stamp_packet.ReflectedPacket, key: bytes | None) -> None:
    data = stamp_packet.encode_reflected(packet, key)
    assert stamp_packet.decode_reflected(data, key) == packet
    assert stamp_packet.peek(data) == (packet.ssid, True)


@given(st.binary(max_size=200), keys)
def test_any_bytes_give_a_packet_or_one_error_type(data: bytes, key: bytes | None) -> None:
    reasons = []
    for decode in (stamp_packet.decode_sender, stamp_packet.decode_reflected):
        try:
            decode(data, key)
        except stamp_packet.StampError as error:
            reasons.append(error.reason)
        else:
            reasons.append("read")
    if key is not None:  # nobody guesses an HMAC
        assert "read" not in reasons
    assert set(reasons) <= {"length", "hmac", "direction", "read"}


@pytest.mark.parametrize("key", [None, KEY])
def test_every_truncation_and_extension_is_refused_by_length(key: bytes | None) -> None:
    sent, reflected = stamp_packet.encode_sender(SENDER, key), stamp_packet.encode_reflected(REFLECTED, key)
    for size in [*range(len(sent)), len(sent) + 1, len(sent) + 4]:
        with pytest.raises(stamp_packet.StampError, match="byte STAMP packet"):
            stamp_packet.decode_sender((sent + b"\0\0\0\0")[:size], key)
        with pytest.raises(stamp_packet.StampError, match="byte STAMP packet"):
            stamp_packet.decode_reflected((reflected + b"\0\0\0\0")[:size], key)


@given(st.integers(0, 111), st.integers(1, 255))
def test_one_changed_byte_anywhere_breaks_an_authenticated_packet(at: int, change: int) -> None:
    for data, decode in (
        (stamp_packet.encode_sender(SENDER, KEY), stamp_packet.decode_sender),
        (stamp_packet.encode_reflected(REFLECTED, KEY), stamp_packet.decode_reflected),
    ):
        broken = bytearray(data)
        broken[at] ^= change
        with pytest.raises(stamp_packet.StampError):
            decode(bytes(broken), KEY)


def test_another_key_is_refused_as_hmac() -> None:
    with pytest.raises(stamp_packet.StampError) as caught:
        stamp_packet.decode_sender(stamp_packet.encode_sender(SENDER, KEY), KEY[::-1])
    assert caught.value.reason == "hmac"


def test_a_request_is_no_reply_and_a_reply_no_request() -> None:
    """Two probes share one socket each; were a reply taken for a request they would answer each other for ever."""
    with pytest.raises(stamp_packet.StampError) as caught:
        stamp_packet.decode_sender(stamp_packet.encode_reflected(REFLECTED, KEY), KEY)
    assert caught.value.reason == "direction"
    with pytest.raises(stamp_packet.StampError) as caught:
        stamp_packet.decode_reflected(stamp_packet.encode_sender(SENDER, KEY), KEY)
    assert caught.value.reason == "direction"


@pytest.mark.parametrize(
    ("wall_ns", "ntp"),
    [
        (0, 2_208_988_800 << 32),
        (1_583_020_800_500_000_000, int.from_bytes(T1, "big")),
        (2_085_978_495_999_999_999, 0xFFFFFFFF_FFFFFFFC),  # the last nanosecond before the NTP era ends, 2036-02-07
        (2_085_978_496_000_000_000, 0),
    ],
)
def test_known_times_in_ntp_format(wall_ns: int, ntp: int) -> None:
    assert stamp_packet.ntp_from_ns(wall_ns) == ntp
    assert stamp_packet.ns_from_ntp(ntp) == wall_ns


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_ntp_format_loses_no_nanosecond_of_this_century(wall_ns: int) -> None:
    assert stamp_packet.ns_from_ntp(stamp_packet.ntp_from_ns(wall_ns)) == wall_ns


def test_a_reflector_with_ptp_timestamps_says_so_in_the_z_bit() -> None:
    """RFC 8762 §4.1.1: routers often stamp in PTP format."""
    t2, t3 = (100 << 32) + 999_999_000, (101 << 32) + 1_000
    assert stamp_packet.time_ns(t3, 0x4001) - stamp_packet.time_ns(t2, 0x4001) == 2_000


@given(st.integers(1, 10**15), st.booleans())
def test_error_estimate_never_promises_more_than_it_was_told(error_ns: int, synchronised: bool) -> None:
    wire = stamp_packet.encode_error(error_ns, synchronised=synchronised)
    assert error_ns - 1 <= stamp_packet.error_ns(wire) <= error_ns * 1.01 + 2
    assert bool(wire & 0x8000) is synchronised
    assert wire & 0x4000 == 0  # NTP format


def test_error_estimate_with_zero_multiplier_is_refused() -> None:
    with pytest.raises(stamp_packet.StampError, match="zero multiplier"):
        stamp_packet.error_ns(0x1200)
