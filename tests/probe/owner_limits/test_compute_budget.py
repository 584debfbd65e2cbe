"""Seconds of processor and GPU are limited by the owner: no more are used, under however many task ids."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import msgspec
import pytest
from compute_rig import FIGURE, TASK, Rig, lines, running

from swarm_probe.compute.job import Done, Measured, Started
from swarm_probe.compute.limits import ComputeLimits
from swarm_probe.compute.supervisor import Compute
from swarm_probe.owner_limits.compute_budget import (
    DAY_PIECES,
    HOUR_PIECES,
    PIECE_NS,
    STATE_FILE,
    Allowance,
    ComputeBudget,
    parse_allowance,
)
from swarm_protocol.messages.probe_messages import Challenge, ChallengeReady
from swarm_protocol.messages.samples import EventSample
from swarm_protocol.units import NS_PER_S

T0 = 1_700_000_000_000_000_000
NONE = Allowance(None, None)
BURN = "import threading\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass\n"
CHALLENGE = Challenge(challenge_id=5, matrix_seed=bytes(32), dtype="fp32")


def budget(processor: Allowance = NONE, gpu: Allowance = NONE) -> ComputeBudget:
    return ComputeBudget(processor, gpu)


def test_what_was_used_is_forgotten_an_hour_and_a_day_after_its_piece() -> None:
    made = budget(Allowance(100.0, 250.0))
    made.spend(100.0, 0.0, T0)
    assert made.why_end(T0) == "100 of the 100 s of processor that its owner allows in any hour are used"
    hour_ns, day_ns = (HOUR_PIECES + 1) * PIECE_NS, (DAY_PIECES + 1) * PIECE_NS
    assert made.why_end(T0 + hour_ns - PIECE_NS) is not None
    assert made.why_not(T0 + hour_ns) is None
    for hour in (1, 2):
        made.spend(75.0, 0.0, T0 + hour * hour_ns)
    assert "250 of the 250 s of processor that its owner allows in any day" in (made.why_end(T0 + 2 * hour_ns) or "")
    assert made.why_end(T0 + 3 * hour_ns) is not None
    assert made.why_not(T0 + day_ns) is None


def test_nothing_is_begun_with_a_little_left_and_the_wait_is_known() -> None:
    made = budget(NONE, Allowance(60.0, None))
    made.spend(0.0, 55.0, T0)
    assert made.why_end(T0) is None
    assert made.why_not(T0) == "55 of the 60 s of GPU that its owner allows in any hour are used"
    wait_s = made.room_in_s(T0)
    assert 3600 <= wait_s <= 3900
    assert made.why_not(T0 + round(wait_s * NS_PER_S)) is None
    assert budget(Allowance(0.0, 0.0)).room_in_s(T0) == float("inf")
    assert budget().why_not(T0) is None


def test_it_is_kept_over_restarts_and_clocks_win_nothing(tmp_path: Path) -> None:
    made = ComputeBudget.open(Allowance(10.0, 20.0), NONE, tmp_path, T0)
    made.spend(10.0, 3.0, T0)
    made.write(T0)
    again = ComputeBudget.open(Allowance(10.0, 20.0), NONE, tmp_path, T0)
    assert again.used_s(T0) == ((10.0, 10.0), (3.0, 3.0))
    assert again.why_not(T0 - 10**17) is not None  # the clock was set back: what is of the future counts
    (tmp_path / STATE_FILE).write_text("{")
    damaged = ComputeBudget.open(Allowance(10.0, 20.0), NONE, tmp_path, T0)
    assert damaged.why_not(T0) is not None
    assert "counted as a day's worth" in damaged.line(T0)


@pytest.mark.parametrize(
    ("text", "allowance"),
    [
        ("10m", Allowance(120.0, 600.0)),
        ("90", Allowance(18.0, 90.0)),
        ("2m/hour,10m/day", Allowance(120.0, 600.0)),
        ("1h/d", Allowance(None, 3600.0)),
        ("30s/h", Allowance(30.0, None)),
        ("0", Allowance(0.0, 0.0)),
        ("none", NONE),
    ],
)
def test_allowances_are_written_as_people_write_them(text: str, allowance: Allowance) -> None:
    assert parse_allowance(text) == allowance


@pytest.mark.parametrize("text", ["", "lots", "10m/", "10m/week", "1m/h,2m/h", "-5m", "1e9999", "10m,"])
def test_invalid_text_is_reported(text: str) -> None:
    with pytest.raises(ValueError, match="is not an allowance; write 10m, 2m/hour,10m/day, 0 or none"):
        parse_allowance(text)


# ---------------------------------------------------------------- enforced, whatever is asked


class Bounded(Rig):
    def __init__(self, child: str, made: ComputeBudget, *, cards: int = 0) -> None:
        super().__init__(child)
        head = "import sys, os, time\njob = sys.stdin.buffer.readline()\ndef say(line): os.write(1, line)\n"
        self.wall_ns = T0
        limits = ComputeLimits(
            settle_s=0.01, look_s=0.02, lock_path="", failed_again_s=0.02, command=(sys.executable, "-c", head + child)
        )
        self.compute = Compute(
            self.emit, say=self.said.append, wall_ns=lambda: self.wall_ns, rng=random.Random(1), limits=limits,
            find_torch=lambda: "2.0", budget=made, cards=lambda: cards,
        )  # fmt: skip


async def test_a_measurement_that_takes_more_is_ended_and_none_is_restarted() -> None:
    made = budget(Allowance(0.6, None))
    rig = Bounded(lines(Started(device="cpu: d")) + BURN, made)
    async with running(rig):
        await rig.until(lambda: rig.compute.status.startswith("waiting: "))
        for number in range(5):  # another task id each time
            rig.compute.update(msgspec.structs.replace(TASK, task_id=number + 10))
            await asyncio.sleep(0.05)
        await rig.until(lambda: rig.compute.status.startswith("waiting: "))
        used = made.used_s(T0)[0][0]
    assert [event.split(":")[0] for event in rig.events()] == ["compute_failed"]
    assert 0.6 <= used <= 3.0
    assert "s of processor that its owner allows in any hour are used; layers are timed again in" in rig.compute.status


async def test_time_on_a_card_counts_while_the_child_has_it() -> None:
    made = budget(NONE, Allowance(0.5, None))
    rig = Bounded(lines(Started(device="NVIDIA H100")) + "time.sleep(30)\n", made, cards=1)
    async with running(rig):
        await rig.until(lambda: rig.compute.status.startswith("waiting: "))
    assert "s of GPU that its owner allows in any hour are used" in rig.compute.status
    assert made.used_s(T0)[1][0] >= 0.5


async def test_a_new_hour_continues() -> None:
    made = budget(Allowance(100.0, None))
    made.spend(100.0, 0.0, T0)
    rig = Bounded(lines(Started(device="cpu"), Measured(sample=FIGURE), Done()), made)
    async with running(rig):
        await rig.until(lambda: rig.compute.status.startswith("waiting: "))
        assert rig.samples == []
        rig.wall_ns += 4000 * NS_PER_S
        rig.compute.update(msgspec.structs.replace(TASK, task_id=2))
        await rig.until(lambda: rig.samples)
    assert rig.samples[0] == FIGURE


async def test_a_challenge_is_answered_with_why_not_where_nothing_is_left() -> None:
    rig = Bounded(BURN, budget(Allowance(0.0, 0.0)))
    answers: list[object] = []
    async with running(rig, None):
        rig.compute.challenge(CHALLENGE, "a" * 16, answers.append)
        await rig.until(lambda: answers)
    (answer,) = answers
    assert isinstance(answer, ChallengeReady)
    assert "of processor that its owner allows" in answer.trouble
    assert not any(isinstance(sample, EventSample) for sample in rig.samples)


async def test_a_child_that_ends_at_once_is_booked_too() -> None:
    """By what the system says of children that have ended: it was gone before anybody looked."""
    made = budget(Allowance(1000.0, None))
    rig = Bounded("sum(range(10_000_000)); sys.exit(1)", made)
    async with running(rig):
        await rig.until(lambda: len(rig.events()) >= 2)
        assert made.used_s(T0)[0][0] > 0.05
