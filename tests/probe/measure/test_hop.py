"""Hops over real loopback connections: what is counted, what is bounded, and what a broken peer turns into."""

from __future__ import annotations

import asyncio
import time

import pytest

from swarm_probe.measure import hop
from swarm_probe.streams.channel import Unreachable
from swarm_probe.streams.tcp_endpoint import Stream
from swarm_protocol import hop_round
from swarm_protocol.units import NS_PER_S

Ends = tuple[Stream, Stream]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """On loopback TCP forgets nothing worth waiting for."""
    monkeypatch.setattr(hop, "IDLE_NS", 1_000_000)


async def measure(stream: Stream, size: int, interrupted: list[bool] | None = None) -> hop.HopRound | None:
    turns = iter(interrupted or [])
    return await hop.measure(stream, size, 0, time.monotonic_ns, lambda: next(turns, False))


async def test_a_round_is_a_first_message_and_twelve_at_cadence(ends: Ends) -> None:
    caller, server = ends
    serving = asyncio.ensure_future(hop.serve(server, 16_384, time.monotonic_ns))
    measured = await measure(caller, 16_384)
    assert measured is not None
    assert len(measured.ordered_ns) == 12
    assert list(measured.ordered_ns) == sorted(measured.ordered_ns)
    assert 0 < measured.at(0.5) <= measured.at(0.99)
    assert measured.first_ns > 0
    caller.close()
    await serving  # the end of the connection is the end of a round, not an error


async def test_messages_after_a_pause_are_distinguished(ends: Ends) -> None:
    """A clock on which each message that follows a pause takes 100 ms more: TCP had forgotten its window."""
    caller, server = ends
    serving = asyncio.ensure_future(hop.serve(server, 1000, lambda: 0))
    now_ns, looks = 0, 0

    def clock() -> int:
        nonlocal now_ns, looks
        looks += 1
        if looks % 2 == 0:  # the look after the acknowledgement
            now_ns += 120_000_000 if looks // 2 > 13 else 20_000_000
        return now_ns

    measured = await hop.measure(caller, 1000, 0, clock, lambda: False)
    assert measured is not None
    assert len(measured.ordered_ns) == 12
    assert max(measured.ordered_ns) <= 20_000_000
    assert measured.after_idle_ns is not None
    assert 100_000_000 < measured.after_idle_ns <= 120_000_000
    caller.close()
    await serving


async def test_a_prefill_round_is_short_and_asks_for_no_pause(ends: Ends) -> None:
    caller, server = ends
    serving = asyncio.ensure_future(hop.serve(server, 131_072, time.monotonic_ns))
    measured = await hop.measure(
        caller, 131_072, 0, time.monotonic_ns, lambda: False, messages=hop_round.MESSAGES_MIN, after_idle=0
    )
    assert measured is not None
    assert len(measured.ordered_ns) == 3
    assert measured.after_idle_ns is None
    caller.close()
    await serving


@pytest.mark.parametrize(
    ("size", "cadence_s", "messages"),
    [(1, 0, 12), (16_384, 0.15, 12), (262_144, 0.15, 4), (1 << 20, 0.15, 3), (16_384, 5, 6), (16_384, 10, 3)],
)
def test_a_round_is_bounded_in_bytes_and_time_but_says_something(size: int, cadence_s: float, messages: int) -> None:
    assert hop_round.messages_in_round(size, int(cadence_s * NS_PER_S)) == messages


async def test_what_the_other_program_takes_to_answer_is_no_part_of_a_hop(ends: Ends) -> None:
    """A peer whose processor is busy must not look like a slow path."""
    caller, server = ends
    ticks = iter(range(0, 10**12, 40_000_000))  # every look at the clock finds it 40 ms later

    serving = asyncio.ensure_future(hop.serve(server, 1000, lambda: next(ticks)))
    clock = iter(range(0, 10**12, 50_000_000))
    measured = await hop.measure(caller, 1000, 0, lambda: next(clock), lambda: False)
    assert measured is not None
    # 50 ms went by here, 40 of them before the other end answered, and less where the kernel says when each arrived
    assert 0 < measured.at(0.5) <= 10_000_000
    caller.close()
    await serving


@pytest.mark.parametrize(
    ("here", "there"),
    [([False] * 13 + [True], [False] * 7), ([False], [False] * 6 + [True])],
    ids=["at this end", "at the other end"],
)
async def test_a_transfer_that_begins_ends_the_round_with_what_it_has(
    here: list[bool], there: list[bool], ends: Ends
) -> None:
    """We are asked before and after each message, the other end at each: the seventh is beside it and left out."""
    caller, server = ends
    turns = iter(there)
    serving = asyncio.ensure_future(hop.serve(server, 100, time.monotonic_ns, lambda: next(turns)))
    measured = await measure(caller, 100, here)
    assert measured is not None
    assert len(measured.ordered_ns) == 5
    caller.close()
    await serving


async def test_a_round_interrupted_at_once_says_nothing(ends: Ends) -> None:
    caller, _ = ends
    assert await measure(caller, 100, [True]) is None


async def test_a_peer_that_closes_in_the_middle_is_unreachable(ends: Ends) -> None:
    caller, server = ends
    server.finish_writing()
    with pytest.raises(Unreachable, match="closed the connection in the middle of a round"):
        await measure(caller, 100)


async def test_a_peer_that_never_acknowledges_is_unreachable(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop, "ANSWER_S", 0.05)
    caller, _ = ends
    with pytest.raises(Unreachable, match=r"no acknowledgement of a 100-byte message within 0.05 s"):
        await measure(caller, 100)


async def test_a_caller_that_dribbles_is_dropped(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop, "IDLE_S", 0.05)
    caller, server = ends
    await caller.write(b"x")
    with pytest.raises(TimeoutError):
        await hop.serve(server, 100, time.monotonic_ns)


async def test_a_caller_gets_no_more_acknowledgements_than_a_round_has(ends: Ends) -> None:
    caller, server = ends
    await caller.write(b"x" * 1000)
    await hop.serve(server, 1, time.monotonic_ns)
    server.close()
    acknowledged = 0
    buffer = memoryview(bytearray(256))
    try:
        while got := await caller.read_into(buffer):
            acknowledged += got
    except Unreachable:  # closed with our bytes unread: a reset
        pass
    assert acknowledged <= hop.SERVED_MESSAGES * hop.ACK_BYTES
