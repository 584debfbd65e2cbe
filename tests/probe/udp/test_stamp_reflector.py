"""The reflector answers announced members only, once for each request, never with more bytes than came."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.udp.stamp.stamp_reflector import FORGET_NS, REPLAY_WINDOW, Accepted, Announced, Reflector, Refused
from swarm_probe.udp.stamp.stamp_replies import MAX_SEND_DELAY_NS, MIN_SEND_DELAYS, SendDelay
from swarm_protocol.packets import stamp_packet
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_S

KEY, SSID = b"k" * 32, 12
NOW = 1000 * NS_PER_S
WALL = 1_700_000_000 * NS_PER_S


def reflector(*announced: Announced, per_s: float = 1e6) -> Reflector:
    one = Reflector(TokenBucket(per_s, per_s))
    one.announce(announced or (Announced(SSID, KEY, "peer"),), NOW)
    return one


def request(
    seq: int,
    *,
    clock_ns: int | None = None,
    key: bytes | None = KEY,
    ssid: int = SSID,
    follow_up: bool = False,
) -> bytes:
    sent_ns = WALL + (seq * NS_PER_S if clock_ns is None else clock_ns)
    return stamp_packet.encode_sender(
        stamp_packet.SenderPacket(seq, stamp_packet.ntp_from_ns(sent_ns), 0x0101, ssid, follow_up), key
    )


def answer(one: Reflector, data: bytes, now_ns: int = NOW) -> stamp_packet.ReflectedPacket | Refused:
    accepted = one.accept(data, now_ns)
    if isinstance(accepted, Refused):
        return accepted
    reply = one.answer(accepted, received_ns=WALL, sent_ns=WALL + 5, ttl=61, error=0x0203)
    assert len(reply.data) <= len(data)
    one.departed(reply, WALL + 100 + reply.seq)
    return stamp_packet.decode_reflected(reply.data, None if len(data) == stamp_packet.OPEN_BYTES else KEY)


def test_an_answer_repeats_the_request_and_counts_by_itself() -> None:
    one = reflector()
    answer(one, request(0))
    reply = answer(one, request(5))
    assert isinstance(reply, stamp_packet.ReflectedPacket)
    assert (reply.seq, reply.sender_seq, reply.ssid, reply.sender_ttl, reply.error) == (1, 5, SSID, 61, 0x0203)
    assert stamp_packet.ns_from_ntp(reply.sender_ntp) == WALL + 5 * NS_PER_S
    assert (stamp_packet.ns_from_ntp(reply.received_ntp), stamp_packet.ns_from_ntp(reply.sent_ntp)) == (WALL, WALL + 5)


def test_an_unauthenticated_session_is_answered_where_it_was_announced_as_one() -> None:
    one = reflector(Announced(SSID, None))
    assert isinstance(answer(one, request(0, key=None)), stamp_packet.ReflectedPacket)
    assert answer(one, request(1)) == Refused("length")


def test_a_member_cannot_be_spoken_for_without_its_key() -> None:
    one = reflector()
    assert answer(one, request(0, key=b"x" * 32)) == Refused("hmac")
    assert answer(one, request(0, key=None)) == Refused("length")


def test_an_unannounced_or_ended_session_is_not_answered() -> None:
    one = reflector()
    assert answer(one, request(0, ssid=SSID + 1)) == Refused("ssid")
    one.announce([], NOW)
    assert answer(one, request(0)) == Refused("ssid")


def test_two_members_with_the_same_session_id_are_distinguished_by_their_keys() -> None:
    one = reflector(Announced(SSID, b"a" * 32, "first"), Announced(SSID, b"b" * 32, "second"))
    accepted = one.accept(request(0, key=b"b" * 32), NOW)
    assert isinstance(accepted, Accepted)
    assert accepted.peer == "second"


def test_a_reply_is_never_answered_so_that_two_probes_cannot_loop() -> None:
    one = reflector()
    accepted = one.accept(request(0), NOW)
    assert isinstance(accepted, Accepted)
    reply = one.answer(accepted, received_ns=WALL, sent_ns=WALL, ttl=1, error=1)
    assert one.accept(reply.data, NOW) == Refused("direction")


def test_every_replay_is_refused() -> None:
    one = reflector()
    packets = [request(seq) for seq in range(5)]
    for packet in packets:
        assert isinstance(answer(one, packet), stamp_packet.ReflectedPacket)
    assert [answer(one, packet) for packet in packets] == [Refused("replay")] * 5


def test_a_request_that_was_overtaken_is_answered_once_within_the_window() -> None:
    one = reflector()
    answer(one, request(REPLAY_WINDOW))
    assert isinstance(answer(one, request(1)), stamp_packet.ReflectedPacket)
    assert answer(one, request(1)) == Refused("replay")
    assert answer(one, request(0)) == Refused("replay")  # behind the window: nobody knows any more


def test_a_sender_that_was_started_again_begins_a_new_count_and_its_old_packets_are_replays() -> None:
    one = reflector()
    old = [request(seq) for seq in range(100)]
    for seq, packet in enumerate(old):
        answer(one, packet, NOW + seq * NS_PER_S)
    later_ns = NOW + 100 * NS_PER_S
    fresh = answer(one, request(0, clock_ns=500 * NS_PER_S), later_ns)
    assert isinstance(fresh, stamp_packet.ReflectedPacket)
    assert fresh.seq == 0
    assert answer(one, old[99], later_ns) == Refused("replay")
    assert isinstance(answer(one, request(1, clock_ns=501 * NS_PER_S), later_ns), stamp_packet.ReflectedPacket)


def test_a_sender_whose_clock_was_set_back_is_answered_again_after_a_silence() -> None:
    one = reflector()
    answer(one, request(7))
    behind = request(8, clock_ns=-3600 * NS_PER_S)
    assert answer(one, behind, NOW + NS_PER_S) == Refused("replay")
    assert isinstance(answer(one, behind, NOW + FORGET_NS + 1), stamp_packet.ReflectedPacket)


def test_a_session_that_stays_in_the_plan_keeps_its_count() -> None:
    one = reflector()
    answer(one, request(0))
    one.announce([Announced(SSID, KEY, "peer"), Announced(SSID + 1, KEY, "other")], NOW)
    reply = answer(one, request(1))
    assert isinstance(reply, stamp_packet.ReflectedPacket)
    assert reply.seq == 1


def test_answers_to_all_together_stay_under_the_limit() -> None:
    one = reflector(per_s=10.0)
    answers = [answer(one, request(seq)) for seq in range(30)]
    assert sum(isinstance(a, stamp_packet.ReflectedPacket) for a in answers) == 10
    assert answers[-1] == Refused("rate")
    assert isinstance(answer(one, request(30), NOW + NS_PER_S), stamp_packet.ReflectedPacket)


@given(st.lists(st.binary(max_size=130), max_size=30))
def test_a_strangers_bytes_are_never_answered(junk: list[bytes]) -> None:
    one = reflector()
    assert all(isinstance(one.accept(data, NOW), Refused) for data in junk)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 3000), min_size=1, max_size=200))
def test_no_request_is_ever_answered_twice_in_any_order(seed: int, seqs: list[int]) -> None:
    one = reflector()
    wire = [request(seq) for seq in seqs] * 2
    random.Random(seed).shuffle(wire)
    answered = [data for data in wire if isinstance(one.accept(data, NOW), Accepted)]
    assert len(answered) == len(set(answered))


def test_each_answer_carries_the_departure_of_the_one_before_it_if_requested() -> None:
    one = reflector()
    replies = [answer(one, request(seq, follow_up=seq != 2)) for seq in range(4)]
    reported = [reply.follow_up for reply in replies if isinstance(reply, stamp_packet.ReflectedPacket)]
    left = [stamp_packet.FollowUp(seq, stamp_packet.ntp_from_ns(WALL + 100 + seq)) for seq in range(4)]
    assert reported == [stamp_packet.NO_FOLLOW_UP, left[0], None, left[2]]


def test_an_answer_without_a_departure_stamp_has_no_follow_up() -> None:
    one = reflector()
    for seq in range(3):
        accepted = one.accept(request(seq, follow_up=True), NOW)
        assert isinstance(accepted, Accepted)
        reply = one.answer(accepted, received_ns=WALL, sent_ns=WALL, ttl=1, error=1)
        assert stamp_packet.decode_reflected(reply.data, KEY).follow_up == stamp_packet.NO_FOLLOW_UP


def test_a_restarted_sender_gets_no_follow_up_of_its_former_session() -> None:
    one = reflector()
    answer(one, request(7, follow_up=True))
    fresh = answer(one, request(0, clock_ns=500 * NS_PER_S, follow_up=True))
    assert isinstance(fresh, stamp_packet.ReflectedPacket)
    assert fresh.follow_up == stamp_packet.NO_FOLLOW_UP


def test_an_answer_is_dated_ahead_by_the_least_that_leaving_ever_took_once_that_is_known() -> None:
    """A T3 after the departure would make a round trip shorter than its path."""
    leaving = SendDelay()
    leaving.add(70_000)
    for took_ns in (*range(90_000, 90_000 + MIN_SEND_DELAYS - 2), -5, MAX_SEND_DELAY_NS + 1):
        leaving.add(took_ns)  # the last two: a clock that was set, a processor taken away
    assert leaving.least_ns == 0
    leaving.add(110_000)
    assert leaving.least_ns == 70_000
