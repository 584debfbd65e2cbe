"""Call functions in a worker process: it starts when a question comes, and ends some time after the last one.

A search in a process of its own delays no key of the dashboard, and its memory is free again when the process ends.

One thread owns the process. `concurrent.futures` would start a second helper process, import the command line's module
again, and leave its workers behind where this process is killed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import IO, Any, Final, TypeVar, TypeVarTuple, cast

from swarm_protocol.text import safe
from swarmtop.errors import WorkerEnded
from swarmtop.worker_process import messages

IDLE_S: Final = 10.0  # without a question: people who move through a recording ask more often
TRIES: Final = 2  # for each question: a process that was killed is replaced once
WORKER: Final = "swarmtop.worker_process.program"
LAST_WORDS_BYTES: Final = 2000  # of the worker's stderr

_Answer = TypeVar("_Answer")
_Arguments = TypeVarTuple("_Arguments")


@dataclass(slots=True)
class _Job:
    question: tuple[Callable[..., Any], tuple[Any, ...]]
    answer: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    questions: IO[bytes]
    answers: IO[bytes]
    stderr: IO[bytes]  # a file: nobody reads it while the process runs


class WorkerProcess:
    """The process of `program`. `idle_s`: seconds without a question after which it ends."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of what follows
        self._running: _Running | None = None
        self._closed = False
        threading.Thread(target=self._serve, name="worker-process", daemon=True).start()

    @property
    def pid(self) -> int | None:
        """Return its process id; None: it does not run now."""
        running = self._running
        return running.process.pid if running is not None else None

    def answer(self, function: Callable[[*_Arguments], _Answer], *arguments: *_Arguments) -> _Answer:
        """Return what the function returns there; blocks. Raises what it raises there, with the traceback as a note,
        and WorkerEnded."""
        job = _Job((function, arguments))
        with self._lock:
            if self._closed:
                raise WorkerEnded("the worker process is closed")
            self._jobs.put(job)
        return cast("_Answer", job.answer.result())

    def close(self) -> None:
        """End the process, in the middle of a search too. Questions that wait raise WorkerEnded."""
        with self._lock:
            self._closed = True
            if self._running is not None:
                self._running.process.kill()
            self._jobs.put(None)

    def _serve(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._idle_s if self._running is not None else None)
            except queue.Empty:
                self._end()
                continue
            if job is None:
                self._end()
                return
            try:
                found, error = self._ask(job)
            except Exception as trouble:  # noqa: BLE001 for who asked
                found, error = None, trouble
            if error is not None:
                job.answer.set_exception(error)
            else:
                job.answer.set_result(found)
            del job, found, error  # not to be kept while waiting for the next

    def _ask(self, job: _Job) -> tuple[Any, Exception | None]:
        for left in reversed(range(TRIES)):
            running = self._started()
            try:
                messages.write(running.questions, job.question)
                answer = messages.read(running.answers)
            except (EOFError, BrokenPipeError):
                how = self._end()
                if not left or self._closed:
                    raise WorkerEnded(f"the worker process {how}") from None
            else:
                return cast("tuple[Any, Exception | None]", messages.decode(answer))
        raise AssertionError

    def _started(self) -> _Running:
        """Return the process. Raises WorkerEnded."""
        with self._lock:
            if self._closed:
                raise WorkerEnded("the worker process is closed")
            if self._running is None:
                try:
                    self._running = _start()
                except OSError as error:
                    raise WorkerEnded(f"the worker process cannot be started: {error.strerror}") from error
            return self._running

    def _end(self) -> str:
        """End the process if it runs, and return how it ended."""
        with self._lock:
            running, self._running = self._running, None
        if running is None:
            return "has ended"
        running.process.kill()
        code = running.process.wait()
        for pipe in (running.questions, running.answers):
            with contextlib.suppress(BrokenPipeError):  # what was not sent yet
                pipe.close()
        with running.stderr as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
        return _how(code, safe(next((line for line in reversed(lines) if line.strip()), ""), 200))


def _start() -> _Running:
    with contextlib.ExitStack() as opened:
        stderr = opened.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            # its modules are found where ours are, and not in the folder that somebody is in
            [sys.executable, "-P", "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        opened.pop_all()
    assert process.stdin is not None
    assert process.stdout is not None
    return _Running(process, process.stdin, process.stdout, stderr)


def _how(code: int, last_words: str) -> str:
    said = f": {last_words}" if last_words else ""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}{said}"
    return f"ended with exit code {code}{said}"
