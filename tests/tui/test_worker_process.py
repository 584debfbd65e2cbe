"""The worker process of the planner: its answers are those of this process, and it is never left behind."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import dash_fakes as fakes
import numpy as np
import psutil
import pytest

from swarm_predict.search.limits import EXACT_NODES
from swarm_predict.types import PredictError, Workload
from swarm_protocol.snapshot.links.compact_links import CompactColumn, compacted
from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.planner import questions
from swarmtop.dashboard.planner.planner import Planner
from swarmtop.errors import WorkerEnded
from swarmtop.worker_process import messages
from swarmtop.worker_process.process import WorkerProcess
from swarmtop.worker_process.program import portable

WITHIN_S = 60.0  # on a machine as busy as can be; nothing waits for it to pass


def swarm_of(nodes: int, seed: int = 1) -> Swarm:
    """Random round trips, upload rates and memories; every node is timed."""
    made = fakes.swarm([f"node-{number}" for number in range(nodes)], seed=seed)
    rng = np.random.default_rng(seed)
    for name in ("rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms", "hop_p50_ms"):
        made.links[name] *= rng.uniform(0.5, 2.0)
    made.nodes["up_mbps"][:] = rng.uniform(20, 500, nodes)
    made.nodes["vram_bytes"][:] = rng.choice([8, 16, 24, 48], nodes) * float(1 << 30)
    return made


def until(true: Any) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, "never"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether it has ended; nobody may have asked for its exit code yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    made = WorkerProcess()
    yield made
    made.close()


def kill(worker: WorkerProcess, times: int) -> threading.Thread:
    """Kill so many of its processes, each as soon as it is there."""

    def work() -> None:
        seen: set[int] = set()
        while len(seen) < times:
            pid = worker.pid
            if pid is not None and pid not in seen:
                seen.add(pid)
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


# ---------------------------------------------------------------- answers


def test_answers_equal_those_of_this_process(worker: WorkerProcess) -> None:
    """Plans, bounds, intervals, ranking and notes: the screen does not show where a plan was searched."""
    load = Workload()
    for nodes, seed in ((1, 1), (7, 2), (EXACT_NODES + 1, 3), (25, 4), (30, 5)):
        frame = swarm_of(nodes, seed)
        here = questions.analyse(frame, fakes.MODEL, load, None)
        there = worker.answer(questions.analyse, frame, fakes.MODEL, load, None)
        assert repr(there) == repr(here)  # with NaN, which equals nothing
        again = dataclasses.replace(frame, at_ns=frame.at_ns + 10**9)
        followed = worker.answer(questions.analyse, again, fakes.MODEL, load, there)
        assert repr(followed) == repr(questions.analyse(again, fakes.MODEL, load, here))
        assert (there.plan is not None) == (nodes > EXACT_NODES)  # few hold no 70b


def test_compact_links_arrive_as_they_are() -> None:
    frame = compacted(swarm_of(160))
    pipe = io.BytesIO()
    messages.write(pipe, frame)
    assert len(pipe.getvalue()) < 1 << 20  # columns of which nothing is known take no room
    pipe.seek(0)
    found = messages.decode(messages.read(pipe))
    assert repr((found.at_ns, found.facts, found.events)) == repr((frame.at_ns, frame.facts, frame.events))
    for name, column in frame.links.items():
        assert isinstance(found.links[name], CompactColumn)
        assert found.links[name].nbytes == column.nbytes
        np.testing.assert_array_equal(np.asarray(found.links[name]), np.asarray(column), strict=True)
    for name, column in frame.nodes.items():
        np.testing.assert_array_equal(found.nodes[name], column, strict=True)


def test_pipe_that_ends_within_a_message_is_no_answer() -> None:
    pipe = io.BytesIO()
    messages.write(pipe, {"figures": np.arange(1000)})
    for length in (0, 5, 20, len(pipe.getvalue()) - 1):
        with pytest.raises(EOFError):
            messages.read(io.BytesIO(pipe.getvalue()[:length]))


def test_small_swarm_is_planned_here_and_a_large_one_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to EXACT_NODES nothing loads numba; above, it must not be loaded here."""
    where: list[int] = []
    planner = Planner()
    monkeypatch.setattr(questions, "analyse", lambda *_: os.getpid())
    try:
        for nodes in (EXACT_NODES, EXACT_NODES + 1):
            frame = swarm_of(nodes)
            monkeypatch.setattr(WorkerProcess, "answer", lambda *_: 0)
            where.append(planner.analyse(frame, fakes.MODEL, Workload(), None))  # type: ignore[arg-type]
        assert where == [os.getpid(), 0]
    finally:
        planner.close()


def test_dashboard_that_has_planned_a_large_swarm_has_loaded_no_numba(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the folder somebody is in')")
    code = f"""
import sys
sys.path[:] = [each for each in sys.path if each]
sys.path.append({str(Path(fakes.__file__).parent)!r})
import dash_fakes as fakes
from swarm_predict.types import Workload
from swarmtop.dashboard.planner.planner import Planner
planner = Planner()
found = planner.analyse(fakes.swarm([f"n{{i}}" for i in range(25)]), fakes.MODEL, Workload(), None)
planner.close()
print(found.plan is not None, "numba" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, text=True, capture_output=True, check=True)
    assert run.stdout == "True False\n"


# ---------------------------------------------------------------- errors


class OddError(Exception):
    """Pickle makes it with one argument."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def fail() -> NoReturn:
    raise PredictError("weights 'fp17' are unknown")


def test_error_arrives_as_itself_with_its_traceback(worker: WorkerProcess) -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        worker.answer(int, "x")
    assert "program.py" in caught.value.__notes__[0]
    assert worker.answer(int, "7") == 7  # and it goes on


def test_error_that_pickle_cannot_carry_arrives_as_its_text() -> None:
    try:
        fail()
    except PredictError as error:
        same = portable(error)
    assert type(same) is PredictError
    assert str(same) == "weights 'fp17' are unknown"
    assert "in fail" in same.__notes__[0]
    found = portable(OddError("one", "two"))
    assert type(found) is RuntimeError
    assert str(found) == "OddError: one two"


def test_what_is_printed_there_mixes_with_no_answer(worker: WorkerProcess) -> None:
    assert worker.answer(print, "a library's banner") is None
    assert worker.answer(os.write, 1, b"from below Python") == 17
    assert worker.answer(int, "7") == 7


def test_worker_that_was_killed_is_replaced(worker: WorkerProcess) -> None:
    assert worker.answer(int, "7") == 7
    killer = kill(worker, 1)
    killer.join(WITHIN_S)
    assert worker.answer(int, "8") == 8


def test_worker_killed_in_the_middle_of_a_question_is_asked_again(worker: WorkerProcess) -> None:
    killer = kill(worker, 1)
    assert worker.answer(int, "7") == 7
    assert not killer.is_alive()


def test_worker_that_is_killed_each_time_says_how(worker: WorkerProcess) -> None:
    kill(worker, 2)
    with pytest.raises(WorkerEnded, match=r"^the worker process was ended by SIGKILL$"):
        worker.answer(time.sleep, WITHIN_S)
    assert worker.answer(int, "7") == 7  # the next question has a new one


def test_worker_that_cannot_start_says_why(worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(WorkerEnded, match=r"^the worker process cannot be started: No such file or directory$"):
        worker.answer(int, "7")


def test_worker_that_ends_by_itself_says_its_last_line(worker: WorkerProcess) -> None:
    with pytest.raises(WorkerEnded, match=r"^the worker process ended with exit code 3: no space left$"):
        worker.answer(exec, "import os, sys; sys.stderr.write('no space left\\n'); sys.stderr.flush(); os._exit(3)")


async def test_screen_says_that_the_worker_was_killed() -> None:
    def killed(*_: Any) -> NoReturn:
        raise WorkerEnded("the worker process was ended by SIGKILL")

    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options(analyse=killed))
    async with app.run_test(size=(120, 24)) as pilot:
        await fakes.until(pilot, lambda: "no plan: the worker process was ended by SIGKILL" in app.notice())


# ---------------------------------------------------------------- no process is left


def test_worker_ends_after_its_last_answer_and_comes_again() -> None:
    worker = WorkerProcess(idle_s=0.05)
    try:
        pid = worker.answer(os.getpid)
        until(lambda: not psutil.pid_exists(pid))  # no zombie either
        assert worker.answer(os.getpid) != pid
    finally:
        worker.close()


def test_close_ends_a_question_and_its_process(worker: WorkerProcess) -> None:
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            worker.answer(time.sleep, 1000)
        except WorkerEnded as error:
            raised.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]  # the second waits for the first
    for thread in threads:
        thread.start()
    until(lambda: worker.pid is not None)
    pid = worker.pid
    assert pid is not None
    worker.close()
    for thread in threads:
        thread.join(WITHIN_S)
    assert len(raised) == 2
    assert is_gone(pid)
    with pytest.raises(WorkerEnded):
        worker.answer(int, "7")


@pytest.mark.parametrize("busy", [True, False])
def test_worker_ends_with_a_dashboard_that_is_killed(busy: bool) -> None:
    code = f"""
import os, threading, time
from swarmtop.worker_process.process import WorkerProcess
worker = WorkerProcess()
print(worker.answer(os.getpid), flush=True)
if {busy}:
    worker.answer(exec, "while True: pass")
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as dashboard:
        assert dashboard.stdout is not None
        pid = int(dashboard.stdout.readline())
        if busy:
            spent = psutil.Process(pid).cpu_times().user
            until(lambda: psutil.Process(pid).cpu_times().user > spent + 0.1)
        assert not is_gone(pid)
        dashboard.kill()
    until(lambda: is_gone(pid))


def test_ctrl_c_for_the_dashboard_is_not_for_the_worker(worker: WorkerProcess) -> None:
    pid = worker.answer(os.getpid)
    os.kill(pid, signal.SIGINT)
    assert worker.answer(os.getpid) == pid
