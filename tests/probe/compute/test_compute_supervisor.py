"""Whatever happens to the timing process, the daemon gets one line and continues, and nothing is left running."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from compute_rig import FIGURE, TASK, Rig, lines, running

from swarm_probe.compute.job import Done, Measured, Started, Trouble, Waiting
from swarm_probe.compute.supervisor import MISSING
from swarm_protocol.messages.probe_messages import (
    Challenge,
    ChallengeCommit,
    ChallengeGo,
    ChallengeOpen,
    ChallengeOpened,
    ChallengeReady,
)
from swarm_protocol.messages.samples import ComputeSample, RooflineSample
from swarm_protocol.trust import attestation as arithmetic


async def test_figures_reach_the_spool_and_the_status_counts_them() -> None:
    rig = Rig(lines(Started(device="d"), Measured(sample=FIGURE), Done()))
    async with running(rig):
        await rig.until(lambda: "figures" in rig.compute.status)
    assert rig.samples == [FIGURE]
    assert rig.compute.status == "timed layers of tiny: 1 figures"
    assert rig.said == []


async def test_what_could_not_be_timed_is_an_event_and_the_rest_counts() -> None:
    rig = Rig(lines(Started(device="d"), Trouble(reason="too large"), Measured(sample=FIGURE), Done()))
    async with running(rig):
        await rig.until(lambda: "figures" in rig.compute.status)
    assert rig.events() == ["compute_failed: too large"]
    assert rig.compute.status == "timed layers of tiny: 1 figures; too large"


async def test_what_failed_is_tried_again_before_six_hours_have_passed() -> None:
    rig = Rig("sys.exit(1)", failed_again_s=0.02)
    async with running(rig):
        await rig.until(lambda: len(rig.events()) >= 3)


@pytest.mark.parametrize(
    ("child", "line"),
    [
        ("sys.exit('no CUDA\\x1b[31m device')", "the timing process ended early (exit 1): no CUDA?[31m device"),
        ("os.kill(os.getpid(), 9)", "the timing process ended early (SIGKILL)"),
        ("sys.exit(0)", "the timing process ended early (exit 0)"),
        ("say(b'hello\\n'); time.sleep(60)", "the timing process sent an invalid message (JSON is malformed"),
        ("say(b'x' * 3_000_000); time.sleep(60)", "the timing process sent an invalid message (Separator"),
        (
            'say(b\'{"type":"measured","sample":{"type":"roofline","at_ns":1,"device":"d",\''
            'b\'"dtype":"fp32","mem_gbps":-1,"tflops":1}}\\n\'); time.sleep(60)',
            "the timing process sent an invalid message (Expected `float` > 0",
        ),
    ],
    ids=["exit", "killed", "ended", "garbage", "endless line", "impossible figure"],
)
async def test_a_child_that_ends_badly_is_one_event(child: str, line: str) -> None:
    rig = Rig(child)
    async with running(rig):
        await rig.until(rig.events)
        await rig.until(lambda: "tiny" in rig.compute.status)
    (event,) = rig.events()
    assert event.startswith(f"compute_failed: tiny: {line}")
    assert len(rig.said) == 1


async def test_a_child_that_hangs_is_ended() -> None:
    rig = Rig("time.sleep(3600)", load_s=0.3)
    async with running(rig):
        await rig.until(rig.events)
    assert rig.events() == ["compute_failed: tiny: ended after no answer while starting"]


async def test_a_child_that_takes_too_much_memory_is_ended() -> None:
    rig = Rig("kept = b'x' * 300_000_000\ntime.sleep(3600)", ram_bytes=100 << 20)
    async with running(rig):
        await rig.until(rig.events)
    (event,) = rig.events()
    assert "ended because it took" in event
    assert "0.10 may be used (half of what is free)" in event


async def test_a_program_that_cannot_be_started_is_an_event() -> None:
    rig = Rig(None, command=("/nonexistent/python",))
    async with running(rig):
        await rig.until(rig.events)
    assert rig.events() == ["compute_failed: tiny: cannot start /nonexistent/python (No such file or directory)"]


async def test_missing_torch_is_reported_once_with_the_command_that_helps() -> None:
    rig = Rig("", torch=None, torch_again_s=0.01)
    async with running(rig):
        await rig.until(rig.events)
        rig.compute.update(msgspec.structs.replace(TASK, task_id=2))
        await asyncio.sleep(0)
        rig.compute.update(TASK)
        await rig.until(lambda: rig.compute.status == MISSING)
    assert rig.events() == [
        "torch_missing: torch is not installed, so no layer is timed here; "
        "join by an invite without --no-torch, or pip install 'swarmtop[torch]'"
    ]


async def test_an_unchanged_task_is_not_measured_again_and_a_changed_one_is() -> None:
    rig = Rig(lines(Started(device="d"), Measured(sample=FIGURE), Done()))
    async with running(rig):
        await rig.until(lambda: "figures" in rig.compute.status)
        rig.compute.update(msgspec.structs.replace(TASK))
        rig.compute.update(msgspec.structs.replace(TASK, task_id=2))
        await rig.until(lambda: len(rig.samples) == 2)
        await rig.until(lambda: "figures" in rig.compute.status)
    assert len(rig.samples) == 2


async def test_it_is_measured_again_after_long() -> None:
    rig = Rig(lines(Started(device="d"), Measured(sample=FIGURE), Done()), again_s=0.01)
    async with running(rig):
        await rig.until(lambda: len(rig.samples) >= 3)


async def test_a_change_ends_the_measurement_under_way() -> None:
    child = "if b'task_id\":1' in job: time.sleep(3600)\n" + lines(Started(device="d"), Measured(sample=FIGURE), Done())
    rig = Rig(child)
    async with running(rig):
        await rig.until(lambda: rig.compute.status == "timing layers of tiny")
        rig.compute.update(msgspec.structs.replace(TASK, task_id=2))
        await rig.until(lambda: "figures" in rig.compute.status)
    assert rig.samples == [FIGURE]
    assert rig.events() == []


async def test_waiting_for_another_probe_is_a_status_and_has_its_own_patience() -> None:
    rig = Rig(lines(Waiting()) + "time.sleep(3600)", load_s=0.3, turn_s=0.6)
    async with running(rig):
        await rig.until(lambda: rig.compute.status == "waiting for another probe of this machine")
        await rig.until(rig.events)
    assert rig.events() == [
        "compute_failed: tiny: ended after no answer while waiting for another probe of this machine"
    ]


async def test_no_secret_of_the_daemon_reaches_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMTOP_TOKEN", "secret")
    rig = Rig("sys.exit(str(os.environ.get('SWARMTOP_TOKEN')))")
    async with running(rig):
        await rig.until(rig.events)
    assert rig.events()[0].endswith(": None")


@pytest.mark.slow
async def test_the_real_child_times_a_real_layer_and_is_gone_afterwards(tmp_path: Any) -> None:
    pytest.importorskip("torch")
    rig = Rig(None, lock_path=str(tmp_path / "lock"))
    before = psutil.Process().memory_info().rss
    async with running(rig):
        await rig.until(lambda: "figures" in rig.compute.status or rig.events(), seconds=90)
    assert psutil.Process().memory_info().rss < before + (16 << 20)  # what torch took went with the child
    assert rig.events() == []
    roofline, decode, *visits, prefill = rig.samples
    assert isinstance(roofline, RooflineSample)
    assert isinstance(decode, ComputeSample)
    assert isinstance(prefill, ComputeSample)
    # on a busy machine too few visits fit the time there is, which gives no figure
    timed = [(v.phase, v.batch, v.context, v.stage_layers) for v in visits if isinstance(v, ComputeSample)]
    assert len(timed) == len(visits) == len(set(timed)) <= 2  # one layer, and a stage of several
    assert {each[:3] for each in timed} <= {("visit", 1, 16)}
    assert (decode.phase, decode.batch, decode.context, decode.dtype) == ("decode", 1, 16, "fp32")
    assert (prefill.phase, prefill.context) == ("prefill", 8)
    assert decode.device.startswith("cpu: ") or "NVIDIA" in decode.device
    assert 0.1 < roofline.mem_gbps < 20_000
    assert 0 < decode.ms_per_layer <= decode.ms_p95
    assert min(decode.n, prefill.n) >= 3


async def test_a_challenge_is_answered_and_the_running_measurement_restarted() -> None:
    """The real arithmetic, with torch. tests/collector/ingest/test_compute_attestation.py has the collector's check."""
    pytest.importorskip("torch")
    rng = random.Random(3)
    seed, number = rng.randbytes(32), 77
    answers: list[object] = []
    rig = Rig(None)

    def heard(answer: object) -> None:
        answers.append(answer)
        if isinstance(answer, ChallengeReady):
            rig.compute.order(ChallengeGo(challenge_id=number, seed=seed, steps=16, deadline_ms=60_000.0))
        elif isinstance(answer, ChallengeCommit):
            rig.compute.order(ChallengeOpen(challenge_id=number, steps=(0, 14, 15)))
        rig.news.set()

    matrix_seed = rng.randbytes(32)
    async with running(rig, None):
        offer = Challenge(challenge_id=number, matrix_seed=matrix_seed, dtype="fp32")
        rig.compute.challenge(offer, "a" * 16, heard)
        await rig.until(lambda: len(answers) == 3, seconds=90)
    ready, commit, opened = answers
    assert isinstance(ready, ChallengeReady)
    assert (ready.trouble, ready.dtype) == ("", "fp32")
    assert isinstance(commit, ChallengeCommit)
    assert isinstance(opened, ChallengeOpened)
    hashes = [commit.hashes[32 * step : 32 * step + 32] for step in (0, 14, 15)]
    assert [arithmetic.commitment(output) for output in opened.outputs] == hashes
    checker = arithmetic.Checker(matrix_seed, rng.randbytes(32))
    first, before, last = (np.frombuffer(output, "<f4") for output in opened.outputs)
    x = arithmetic.first_input(seed, "a" * 16, number).astype(np.float32)
    assert checker.holds(x, first, "fp32")
    assert checker.holds(arithmetic.next_input(before), last, "fp32")
    assert not checker.holds(x, last, "fp32")


async def test_the_first_figure_of_a_model_comes_before_a_challenge(tmp_path: Path) -> None:
    """Somebody looks at an empty screen until then; the challenge has minutes."""
    go = tmp_path / "go"
    asked = (
        "if b'matrix_seed' in job: sys.exit(7)\n"
        + lines(Started(device="d"))
        + f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        + lines(Measured(sample=FIGURE), Done())
    )
    rig = Rig(asked)
    async with running(rig):
        await rig.until(lambda: "timing on d" in rig.compute.status)
        rig.compute.challenge(Challenge(challenge_id=5, matrix_seed=b"s" * 32, dtype="fp16"), "a" * 16, lambda _: None)
        go.touch()
        await rig.until(lambda: any(said.startswith("challenge: ") for said in rig.said))
        assert rig.samples == [FIGURE]


async def test_a_challenge_whose_connection_has_ended_keeps_no_layers_waiting() -> None:
    """The collector was killed: nobody will say how the challenge goes on, and the next plan has another model."""
    waits = "if b'matrix_seed' in job: time.sleep(600)\n" + lines(Started(device="d"), Measured(sample=FIGURE), Done())
    rig, answers = Rig(waits), list[object]()
    async with running(rig):
        await rig.until(lambda: len(rig.samples) == 1)
        rig.compute.challenge(Challenge(challenge_id=5, matrix_seed=b"s" * 32, dtype="fp16"), "a" * 16, answers.append)
        await rig.until(lambda: "challenge" in rig.compute.status)
        rig.compute.connection_ended()
        rig.compute.update(msgspec.structs.replace(TASK, model="another"))
        await rig.until(lambda: len(rig.samples) == 2)
    assert rig.said == ["challenge: the connection has ended"]
    assert answers == []  # on the next connection it would be a stray answer


async def test_a_challenge_without_torch_is_declined_with_the_reason() -> None:
    answers: list[object] = []
    rig = Rig("", torch=None)
    async with running(rig, None):
        rig.compute.challenge(Challenge(challenge_id=5, matrix_seed=b"s" * 32, dtype="fp16"), "a" * 16, answers.append)
        await rig.until(lambda: answers)
    assert answers == [ChallengeReady(challenge_id=5, trouble=MISSING)]
