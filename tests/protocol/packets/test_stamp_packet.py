"""STAMP packets against RFC 8762/8972 as written there, built here by hand with hashlib and int.to_bytes."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swarm_protocol.packets import stamp_packet

KEY = bytes(range(32))
keys = st.one_of(st.none(), st.binary(min_size=16, max_size=64))
u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
senders = st.builds(stamp_packet.SenderPacket, seq=u32, sent_ntp=u64, error=u16, ssid=u16)
follow_ups = st.builds(stamp_packet.FollowUp, seq=u32, sent_ntp=u64)
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


ASKING = replace(SENDER, follow_up=True)
TELLING = replace(REFLECTED, follow_up=stamp_packet.FollowUp(seq=4, sent_ntp=int.from_bytes(T2, "big")))


def test_follow_up_and_its_signature_are_the_ones_of_rfc_8972_4_7_and_4_8() -> None:
    for packet, base, flags, value in (
        (stamp_packet.encode_sender(ASKING, KEY), stamp_packet.encode_sender(SENDER, KEY), b"\x80", bytes(16)),
        (
            stamp_packet.encode_reflected(TELLING, KEY),
            stamp_packet.encode_reflected(REFLECTED, KEY),
            b"\0",
            b"\0\0\0\4" + T2 + b"\2" + bytes(3),
        ),
    ):
        follow_up = flags + b"\7\0\x10" + value
        signature = flags + b"\x08\0\x10" + hmac_by_hand(KEY, base[:4] + follow_up)
        assert packet == base + follow_up + signature


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
    if key is not None:
        asking = replace(packet, follow_up=True)
        longer = stamp_packet.encode_sender(asking, key)
        assert stamp_packet.decode_sender(longer, key) == asking
        assert longer[: len(data)] == data


@given(reflecteds, follow_ups, keys)
def test_what_a_reflector_encodes_a_sender_reads(
    packet: stamp_packet.ReflectedPacket, follow_up: stamp_packet.FollowUp, key: bytes | None
) -> None:
    data = stamp_packet.encode_reflected(packet, key)
    assert stamp_packet.decode_reflected(data, key) == packet
    assert stamp_packet.peek(data) == (packet.ssid, True)
    if key is not None:
        telling = replace(packet, follow_up=follow_up)
        longer = stamp_packet.encode_reflected(telling, key)
        assert stamp_packet.decode_reflected(longer, key) == telling
        assert len(longer) == len(stamp_packet.encode_sender(ASKING, key))


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


@given(st.binary(min_size=40, max_size=40), st.booleans())
def test_any_extension_of_a_signed_packet_gives_a_follow_up_or_one_error_type(tail: bytes, reflected: bool) -> None:
    """Also where the signature of the extension is right, so that nothing but its layout is judged."""
    base = stamp_packet.encode_reflected(REFLECTED, KEY) if reflected else stamp_packet.encode_sender(SENDER, KEY)
    decode = stamp_packet.decode_reflected if reflected else stamp_packet.decode_sender
    signed = tail[:24] + hmac_by_hand(KEY, base[:4] + tail[:20])
    reasons = []
    for data in (base + tail, base + signed):
        try:
            reasons.append("read" if decode(data, KEY).follow_up else "lost")
        except stamp_packet.StampError as error:
            reasons.append(error.reason)
    assert set(reasons) <= {"read", "extension", "hmac"}


@pytest.mark.parametrize("key", [None, KEY])
def test_every_truncation_and_extension_is_refused_by_length(key: bytes | None) -> None:
    sent, reflected = stamp_packet.encode_sender(SENDER, key), stamp_packet.encode_reflected(REFLECTED, key)
    for size in [*range(len(sent)), len(sent) + 1, len(sent) + 4, len(sent) + 20]:
        with pytest.raises(stamp_packet.StampError, match="byte STAMP packet"):
            stamp_packet.decode_sender((sent + bytes(20))[:size], key)
        with pytest.raises(stamp_packet.StampError, match="byte STAMP packet"):
            stamp_packet.decode_reflected((reflected + bytes(20))[:size], key)


@given(st.integers(0, 151), st.integers(1, 255))
def test_one_changed_byte_anywhere_breaks_an_authenticated_packet(at: int, change: int) -> None:
    """But for the flags of a request's HMAC TLV: nothing signs them, and they mean something in an answer only."""
    for data, decode in (
        (stamp_packet.encode_sender(SENDER, KEY), stamp_packet.decode_sender),
        (stamp_packet.encode_reflected(REFLECTED, KEY), stamp_packet.decode_reflected),
        (stamp_packet.encode_sender(ASKING, KEY), stamp_packet.decode_sender),
        (stamp_packet.encode_reflected(TELLING, KEY), stamp_packet.decode_reflected),
    ):
        if at >= len(data) or (at == 132 and decode is stamp_packet.decode_sender):
            continue
        broken = bytearray(data)
        broken[at] ^= change
        with pytest.raises(stamp_packet.StampError):
            decode(bytes(broken), KEY)


def test_the_extension_of_one_packet_is_refused_in_another_and_without_it_nothing_is_reported() -> None:
    """RFC 8972 §4.8: the sequence number is signed with the TLVs."""
    telling = stamp_packet.encode_reflected(TELLING, KEY)
    later = stamp_packet.encode_reflected(replace(TELLING, seq=TELLING.seq + 1), KEY)
    with pytest.raises(stamp_packet.StampError) as caught:
        stamp_packet.decode_reflected(later[:112] + telling[112:], KEY)
    assert caught.value.reason == "hmac"
    assert stamp_packet.decode_reflected(telling[:112], KEY) == REFLECTED


def test_only_an_authenticated_packet_carries_a_follow_up() -> None:
    with pytest.raises(ValueError, match="authenticated"):
        stamp_packet.encode_sender(ASKING, None)


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
def test_error_estimate_never_promises_more_than_it_was_reported(error_ns: int, synchronised: bool) -> None:
    wire = stamp_packet.encode_error(error_ns, synchronised=synchronised)
    assert error_ns - 1 <= stamp_packet.error_ns(wire) <= error_ns * 1.01 + 2
    assert bool(wire & 0x8000) is synchronised
    assert wire & 0x4000 == 0  # NTP format


def test_error_estimate_with_zero_multiplier_is_refused() -> None:
    with pytest.raises(stamp_packet.StampError, match="zero multiplier"):
        stamp_packet.error_ns(0x1200)


@given(st.binary(min_size=1, max_size=200))
def test_the_signature_is_hmac_sha_256_of_the_first_six_blocks(key: bytes) -> None:
    """RFC 8762 §4.4, for keys of every length (RFC 2104 §2 hashes long ones)."""
    data = stamp_packet.encode_sender(stamp_packet.SenderPacket(7, 1 << 40, 1, 3), key)
    assert data[96:] == hmac.digest(key, data[:96], "sha256")[:16]
