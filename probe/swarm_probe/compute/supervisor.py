"""Run layer timing in a child process: start it, enforce its limits, and report every failure in one line.

torch is loaded in the child, and only while it measures. A crash, a hang, memory that runs out or a missing torch is an
event and a status; the daemon continues. A changed task is measured soon, an unchanged one rarely.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from swarm_probe.compute.attestation_client import Answer, Challenger
from swarm_probe.compute.child import FREE_SHARE, Watched, free_bytes, why_unwatched
from swarm_probe.compute.job import (
    MAX_BUDGET_S,
    MAX_LINE_BYTES,
    Done,
    Job,
    Measured,
    Order,
    Ready,
    Started,
    Trouble,
    Waiting,
    report_from_line,
    to_line,
)
from swarm_probe.compute.limits import ComputeLimits
from swarm_probe.compute.timing.visit_pause import VisitPause
from swarm_probe.machine.conditions import Conditions, ConditionWatch
from swarm_probe.machine.host import torch_version
from swarm_probe.owner_limits.compute_budget import Allowance, ComputeBudget
from swarm_protocol.child_environment import without_secrets
from swarm_protocol.messages.probe_messages import Challenge, ComputeTask
from swarm_protocol.messages.samples import EventSample, ProbeSample
from swarm_protocol.text import safe

MISSING: Final = (
    "torch is not installed, so no layer is timed here; "
    "join by an invite without --no-torch, or pip install 'swarmtop[torch]'"
)
STDERR_BYTES: Final = 4096
CHALLENGE_S: Final = 300.0  # loading torch from a cold disk, and waiting for another probe's measurement


class _Failed(Exception):
    """This measurement has ended without (all of) its figures; the text says why."""


class Compute:
    """Times layers: `update` sets the task, `run` measures; `status` is one line for people."""

    def __init__(
        self,
        emit: Callable[[ProbeSample], None],
        *,
        say: Callable[[str], None],
        wall_ns: Callable[[], int],
        rng: random.Random,
        limits: ComputeLimits | None = None,
        find_torch: Callable[[], str | None] = torch_version,
        budget: ComputeBudget | None = None,
        cards: Callable[[], int] = lambda: 0,
        away_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Create it. `away_s`: as of `VisitPause`. `budget`: of seconds; None: no limit. `cards`: how many GPUs."""
        self._emit = emit
        self._say = say
        self._wall_ns = wall_ns
        self._rng = rng
        self._limits = limits or ComputeLimits()
        self._find_torch = find_torch
        self._pause = VisitPause(away_s)
        self._budget = budget or ComputeBudget(Allowance(None, None), Allowance(None, None))
        self._cards = cards
        self._child: Watched | None = None  # the running child
        self._task: ComputeTask | None = None
        self._changed = asyncio.Event()
        self._missing_reported = False
        self._rest_reported = ""
        self._measured = 0  # figures of the last task
        self._trouble = ""
        self._failures = 0  # in a row, of this task
        self.status = "no layer to time yet"
        self._watch = ConditionWatch()
        self._challenge: Challenger | None = None
        self._timed: ComputeTask | None = None  # the last task that was tried, to its end or not
        self._asked: Challenge | None = None

    def update(self, task: ComputeTask | None) -> None:
        """Set the plan's task; the same one again changes nothing."""
        if task != self._task:
            self._task, self._failures = task, 0
            self._changed.set()

    def look(self, now: Conditions) -> None:
        """Note the machine's conditions; a lasting change, also of the plan's pauses, has everything measured again."""
        now_s = time.monotonic()
        other = self._task is not None and self._pause.changed(now_s)
        why = "the plan leaves other pauses between tokens" if other else ""
        if self._task is not None and self._watch.look(now, now_s):
            self._watch.measured(now_s)  # or about to be: not again at the next check
            why = "the machine has changed (driver, power, heat or battery)"
        if why:
            self._say(f"{why}: layers are timed again")
            self._changed.set()

    def challenge(self, challenge: Challenge, node_id: str, send: Callable[[Answer], None]) -> None:
        """Answer a challenge; it replaces another. A running measurement is stopped and started again afterwards, since
        the challenge has a deadline; but the first one of a model is finished first, because people wait for its
        figure."""
        self._asked = challenge
        self._challenge = Challenger(challenge, node_id, send)
        if not self._first_is_due:
            self._changed.set()

    def connection_ended(self) -> None:
        """Drop the challenge: it belongs to the connection, so its next message will not come. What is to be timed need
        not wait for it."""
        self._asked = None
        if self._challenge is not None:
            self._challenge.over.set()

    def order(self, order: Order) -> None:
        """Pass on the collector's next message of a challenge; one for another challenge is dropped."""
        if self._challenge is not None:
            self._challenge.order(order)

    @property
    def _first_is_due(self) -> bool:
        """Return whether the present task has not been tried yet."""
        return self._task is not None and self._task is not self._timed

    async def run(self) -> None:
        """Run until cancelled; the child ends with it."""
        while True:
            self._changed.clear()
            wait_s: float | None = None
            if self._first_is_due:  # before a challenge: people wait for the first figure of this model
                task = self._task
                assert task is not None
                wait_s = await self._take_on(task)
                self._timed = task
                if self._first_is_due:  # replaced by another in the meantime
                    continue
            if self._asked is not None and self._challenge is not None:
                self._asked = None
                await self._answer(self._challenge)
            if (task := self._task) is not None and wait_s is None:
                wait_s = await self._take_on(task)
            await happens(self._changed, wait_s)

    async def _take_on(self, task: ComputeTask) -> float:
        """Measure unless the task changes meanwhile; return how long to wait then."""
        limits = self._limits
        if self._find_torch() is None:
            self.status = MISSING
            if not self._missing_reported:
                self._missing_reported = True
                self._report("torch_missing", MISSING)
            importlib.invalidate_caches()  # to find one installed meanwhile
            return limits.torch_again_s
        if (wait_s := self._rests()) is not None:
            return wait_s
        if await happens(self._changed, limits.settle_s):
            return 0.0
        work = asyncio.create_task(self._measure(task))
        change = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({work, change}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            work.cancel()
            change.cancel()
            await asyncio.gather(work, change, return_exceptions=True)
        wait_s = limits.again_s
        if self._failures:
            wait_s = min(wait_s, limits.failed_again_s * 2.0 ** (self._failures - 1))
        return wait_s * self._rng.uniform(0.9, 1.1)

    def _rests(self) -> float | None:
        """Return for how long no layer is timed; None: it may be now. The status says why."""
        why, wait_s = why_unwatched(), self._limits.torch_again_s
        if why is None and (why := self._budget.why_not(self._wall_ns())) is not None:
            wait_s = min(max(self._budget.room_in_s(self._wall_ns()), 1.0), self._limits.again_s)
            why += f"; layers are timed again in {max(1, round(wait_s / 60))} min"
        if why is None:
            return None
        self.status = f"waiting: {why}"
        if why != self._rest_reported:
            self._say(self.status)
        self._rest_reported = why
        return wait_s

    async def _answer(self, challenger: Challenger) -> None:
        before, self.status = self.status, "answering a challenge of the collector"
        try:
            if self._find_torch() is None:
                raise _Failed(MISSING)
            if (why := why_unwatched() or self._budget.why_not(self._wall_ns())) is not None:
                raise _Failed(why)
            await self._converse(challenger)
        except _Failed as failed:
            challenger.give_up(str(failed))
            self._say(f"challenge: {failed}")
        finally:
            self.status = before

    async def _converse(self, challenger: Challenger) -> None:
        """Raises _Failed."""
        answer = asyncio.create_task(self._with_child(challenger.converse, on_gpu=self._cards() > 0))
        over = asyncio.create_task(challenger.over.wait())
        try:
            await asyncio.wait({answer, over}, timeout=CHALLENGE_S, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise _Failed("the connection has ended" if over.done() else f"not done within {CHALLENGE_S:g} s")
            if not answer.result():
                raise _Failed("it was not finished")
        finally:
            answer.cancel()
            over.cancel()
            await asyncio.gather(answer, over, return_exceptions=True)

    async def _measure(self, task: ComputeTask) -> None:
        self._measured, self._trouble = 0, ""
        name = safe(task.model, 64)
        self.status = f"timing layers of {name}"
        try:
            await self._with_child(lambda child, ram: self._listen(child, task, ram), on_gpu=False)
        except _Failed as failed:
            self._failures += 1
            self.status = f"layers of {name}: {failed}"
            self._report("compute_failed", f"{name}: {failed}")
        else:
            self._failures = 0
            self._watch.measured(time.monotonic())
            trouble = f"; {self._trouble}" if self._trouble else ""
            self.status = f"timed layers of {name}: {self._measured} figures{trouble}"

    def _report(self, kind: str, detail: str) -> None:
        event = EventSample(at_ns=self._wall_ns(), kind=kind, detail=safe(detail, 300))  # type: ignore[arg-type]
        self._say(event.detail)
        self._emit(event)

    # ------------------------------------------------------------ the child

    async def _with_child(
        self, converse: Callable[[asyncio.subprocess.Process, int], Awaitable[bool]], *, on_gpu: bool
    ) -> bool:
        """Return True, or raise _Failed. Leaves no child behind, however it ends. `on_gpu`: it has a GPU from its
        start."""
        limits = self._limits
        free, why = free_bytes() if limits.ram_bytes is None else (None, "")
        if limits.ram_bytes is None and free is None:
            raise _Failed(f"cannot read the free memory ({why}); layer timing is skipped")
        ram = limits.ram_bytes if limits.ram_bytes is not None else int((free or 0) * FREE_SHARE)
        watched = self._child = Watched(self._budget, self._wall_ns, on_gpu=on_gpu)
        environment = without_secrets(os.environ)
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # so that GPU #1 is the #1 of NVML
        try:
            child = await asyncio.create_subprocess_exec(
                *limits.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_LINE_BYTES,
                env=environment,
                start_new_session=True,  # Ctrl+C is the daemon's; and the whole group can be ended
            )
        except OSError as error:
            raise _Failed(f"cannot start {limits.command[0]} ({error.strerror})") from error
        assert child.stderr is not None
        assert child.stdout is not None
        last_words = asyncio.create_task(_tail(child.stderr))
        watch = asyncio.create_task(watched.watch(child.pid, ram, limits.look_s))
        listen = asyncio.ensure_future(converse(child, ram))
        try:
            await asyncio.wait({listen, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done() and not listen.done():
                raise _Failed(watch.result())
            if not await listen:  # it ended before it was done
                _end(child)
                raise _Failed(f"the timing process ended early ({_how(await child.wait())}){_shown(await last_words)}")
            return True
        finally:
            _end(child)
            for each in (listen, watch):
                each.cancel()
            await asyncio.gather(listen, watch, return_exceptions=True)
            with contextlib.suppress(
                TimeoutError
            ):  # it was killed; only another process that holds its pipes can delay this
                async with asyncio.timeout(limits.end_s):
                    await asyncio.gather(_tail(child.stdout), last_words, child.wait())
            watched.ended()

    def _has_card(self, on_gpu: bool) -> None:
        if self._child is not None:
            self._child.on_gpu = on_gpu

    async def _listen(self, child: asyncio.subprocess.Process, task: ComputeTask, ram_bytes: int) -> bool:
        """Return True when the child reports that it is done. Raises _Failed if it is silent too long or sends an
        invalid message."""
        limits = self._limits
        assert child.stdin is not None
        assert child.stdout is not None
        job = Job(task=task, ram_limit_bytes=ram_bytes, lock_path=limits.lock_path)
        job = msgspec.structs.replace(job, away_s=self._pause.take(time.monotonic()) or job.away_s)
        with contextlib.suppress(ConnectionError):  # it has already exited; reading reports that
            child.stdin.write(to_line(job))
            await child.stdin.drain()
        loop = asyncio.get_running_loop()
        phase, deadline = "starting", loop.time() + limits.load_s
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    line = await child.stdout.readline()
                if not line:
                    return False
                report = report_from_line(line)
            except TimeoutError as error:
                raise _Failed(f"ended after no answer while {phase}") from error
            except (ValueError, msgspec.DecodeError) as error:  # ValueError: an endless line
                raise _Failed(f"the timing process sent an invalid message ({safe(str(error), 100)})") from error
            match report:
                case Waiting():
                    self._has_card(False)
                    phase, deadline = f"waiting for {safe(report.why, 100)}", loop.time() + limits.turn_s
                    self.status = phase
                case Ready():
                    phase, deadline = "loading torch", loop.time() + limits.load_s
                case Started():
                    self._has_card(not report.device.startswith("cpu"))
                    phase = f"timing on {safe(report.device, 100)}"
                    deadline = loop.time() + 3 * min(task.budget_ms / 1000, MAX_BUDGET_S) + limits.grace_s
                    self.status = f"{phase}: layers of {safe(task.model, 64)}"
                case Measured():
                    self._measured += 1
                    self._emit(report.sample)
                case Trouble():
                    self._trouble = safe(report.reason, 300)
                    self._report("compute_failed", report.reason)
                case Done():
                    return True
                case _:  # a message of a challenge, which this is not
                    raise _Failed(f"the timing process sent an invalid message ({type(report).__name__})")


async def happens(event: asyncio.Event, within_s: float | None) -> bool:
    """Return False if it did not happen in time. (Before Python 3.12 `asyncio.wait_for` can lose a cancellation.)"""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _tail(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while data := await stream.read(STDERR_BYTES):
        kept = (kept + data)[-STDERR_BYTES:]
    return kept


def _end(child: asyncio.subprocess.Process) -> None:
    """End the whole group: torch may have started processes of its own."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _how(status: int) -> str:
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _shown(stderr: bytes) -> str:
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return f": {safe(lines[-1], 120)}" if lines else ""
