"""Long-lived tasks that end are reported and restarted; one that keeps ending ends the program."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from swarm_protocol import supervisor as module
from swarm_protocol.supervisor import PartFailed, Supervisor

log = logging.getLogger("test_supervisor")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "RESTART_DELAY_S", 0.0)
    monkeypatch.setattr(module, "THREAD_POLL_S", 0.001)


ENDS = {"returns": None, "raises": ValueError("no such thing"), "is cancelled": asyncio.CancelledError()}


@pytest.mark.parametrize("how", ENDS)
async def test_a_task_that_ends_is_reported_and_restarted(how: str, caplog: pytest.LogCaptureFixture):
    begun, again = 0, asyncio.Event()

    async def part() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            if (error := ENDS[how]) is not None:
                raise error
            return
        again.set()
        await asyncio.Event().wait()

    parts = Supervisor(log)
    parts.task("counting", part)
    async with asyncio.timeout(10):
        await again.wait()
    assert parts.down == ()
    assert parts.troubles["counting"].startswith("ended 1 times, last 0 s ago (")
    assert [record.message.split(" (")[0] for record in caplog.records] == ["counting ended", "counting was restarted"]
    await parts.close()


async def test_what_ends_again_and_again_ends_the_program():
    async def part() -> None:
        raise ValueError("no such thing")

    parts = Supervisor(log)
    parts.task("counting", part)
    async with asyncio.timeout(10):
        with pytest.raises(PartFailed, match="counting kept failing, last with ValueError: no such thing"):
            await parts.failed()
    assert parts.down == ("counting",)
    assert parts.troubles["counting"].startswith(f"ended {module.MAX_FAILURES + 1} times")
    await parts.close()


async def test_ends_that_lie_far_apart_are_no_failure():
    now_s, ends = 0.0, asyncio.Queue[int]()

    async def part() -> None:
        nonlocal now_s
        now_s += module.FAILURE_WINDOW_S / 2
        ends.put_nowait(1)

    parts = Supervisor(log, steady_s=lambda: now_s)
    parts.task("counting", part)
    async with asyncio.timeout(10):
        for _ in range(10 * module.MAX_FAILURES):
            await ends.get()
    assert not parts._failed.is_set()
    await parts.close()


async def test_a_thread_that_has_ended_is_restarted():
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    release = threading.Event()
    thread = threading.Thread(target=lambda: None)
    thread.start()

    def begin() -> None:
        nonlocal thread
        thread = threading.Thread(target=release.wait)
        thread.start()
        loop.call_soon(begun.set)

    parts = Supervisor(log)
    parts.thread("writing", lambda: thread.is_alive(), begin)
    async with asyncio.timeout(10):
        await begun.wait()
    assert "writing" in parts.troubles
    release.set()
    await parts.close()


async def test_a_thread_that_cannot_be_restarted_ends_the_program():
    def begin() -> None:
        raise RuntimeError("can't start new thread")

    parts = Supervisor(log)
    parts.thread("writing", lambda: False, begin)
    async with asyncio.timeout(10):
        with pytest.raises(PartFailed, match="can't start new thread"):
            await parts.failed()
    await parts.close()


async def test_a_callback_that_fails_is_reported_and_one_that_goes_on_failing_ends_the_program():
    parts = Supervisor(log)
    parts.watch_callbacks(timers_end=True)

    def fails() -> None:
        asyncio.get_running_loop().call_later(0.0, fails)
        raise ValueError("no such thing")

    fails_later = asyncio.get_running_loop().call_later(0.0, fails)
    async with asyncio.timeout(10):
        with pytest.raises(PartFailed, match="fails kept failing"):
            await parts.failed()
    fails_later.cancel()
    await parts.close()


async def test_closed_tasks_are_not_restarted():
    parts = Supervisor(log)
    parts.task("counting", asyncio.Event().wait)  # type: ignore[arg-type]
    await parts.close()
    assert (parts.troubles, parts.down) == ({}, ())
