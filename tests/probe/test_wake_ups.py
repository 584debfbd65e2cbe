"""Pauses of about a second end together, and with the wake-ups of packets, but never late."""

from __future__ import annotations

import asyncio

from swarm_probe.wake_ups import EARLIER, MAX_EARLIER_S, WakeUps


async def test_a_pause_ends_with_a_wake_up_in_its_last_part() -> None:
    wake_ups = WakeUps()
    long = asyncio.create_task(wake_ups.pause(3600.0))
    nearly_over = asyncio.create_task(wake_ups.pause(1e-9))
    await asyncio.sleep(0)
    wake_ups.awake()
    async with asyncio.timeout(10):
        await nearly_over
    assert not long.done()
    long.cancel()


async def test_the_end_of_one_pause_is_a_wake_up_for_the_others() -> None:
    """Nothing else wakes an idle probe up."""
    wake_ups = WakeUps()
    over: list[str] = []

    async def pause(name: str, most_s: float) -> None:
        await wake_ups.pause(most_s)
        over.append(name)

    first = asyncio.create_task(pause("first", 0.2))
    second = asyncio.create_task(pause("second", 0.2 / (1 - EARLIER) - 0.01))
    async with asyncio.timeout(10):
        await first
        await asyncio.sleep(0)
    assert over == ["first", "second"]
    await second


async def test_a_long_pause_ends_no_more_than_half_a_second_early() -> None:
    """A figure for every five seconds is not taken every four."""
    wake_ups = WakeUps()
    began_s = asyncio.get_running_loop().time()
    pause = asyncio.create_task(wake_ups.pause(4 * MAX_EARLIER_S))
    async with asyncio.timeout(10):
        while not pause.done():
            await asyncio.sleep(0.01)
            wake_ups.awake()
    assert asyncio.get_running_loop().time() - began_s >= 3 * MAX_EARLIER_S
    long = asyncio.create_task(wake_ups.pause(400 * MAX_EARLIER_S))
    await asyncio.sleep(0)
    ((from_s, _),) = wake_ups._waiting.values()
    assert from_s - asyncio.get_running_loop().time() >= 398.9 * MAX_EARLIER_S
    long.cancel()


async def test_a_pause_ends_at_the_next_wake_up_once_what_it_waits_for_has_come() -> None:
    wake_ups, sooner = WakeUps(), asyncio.Event()
    task = asyncio.create_task(wake_ups.pause(3600.0, until=sooner))
    await asyncio.sleep(0)
    wake_ups.awake()
    await asyncio.sleep(0)
    assert not task.done()
    sooner.set()
    wake_ups.awake()
    async with asyncio.timeout(10):
        await task


async def test_a_cancelled_pause_leaves_nothing_behind() -> None:
    wake_ups = WakeUps()
    task = asyncio.create_task(wake_ups.pause(3600.0))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert not wake_ups._waiting
