"""Run the child process: read one Job from stdin, write Reports to stdout, and exit when the parent does.

Anything it prints by accident (libraries do) goes to stderr, whose last line the parent shows if this crashes.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from swarm_probe.compute.job import (
    Done,
    Job,
    Measured,
    Ready,
    Report,
    Started,
    Trouble,
    Waiting,
    job_from_line,
    order_from_line,
    to_line,
)
from swarm_probe.machine.contention import Contention
from swarm_probe.machine.gpu import Gpus

YIELD_S: Final = 0.02  # the kernel passes a lock to a waiting process within far less


def main() -> int:
    reports = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    line = sys.stdin.buffer.readline()
    if not line:
        return 0  # the parent ended before it sent a job
    job = job_from_line(line)

    def report(message: Report) -> None:
        reports.write(to_line(message))

    work = _measure
    if job.challenge is not None:
        work = _answer
    else:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    lock = _take_turn(job, report)
    try:
        contention = Contention(Gpus())
        if (why := contention.in_the_way()) is not None:
            report(Waiting(why=why))
            contention.wait_for_calm(time.sleep)
        report(Ready())
        work(job, report, contention, lock)
        report(Done())
    finally:
        if lock is not None:
            lock.close()
    return 0


def _measure(job: Job, report: Callable[[Report], None], contention: Contention, lock: BinaryIO | None) -> None:
    _lower_priority(job.nice)  # first: torch's threads inherit the priority
    try:
        from swarm_probe.compute.devices import devices  # late: these load torch
        from swarm_probe.compute.timing.device_timing import measure_device
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        report(Trouble(reason=f"torch cannot be loaded ({error}); pip install --force-reinstall 'swarmtop[torch]'"))
        return
    assert job.task is not None  # otherwise this is a challenge
    for device in devices(job.ram_limit_bytes):
        marks = functools.partial(contention.marks, device.uuid)
        for message in measure_device(device, job.task, marks, job.away_s):
            report(message)
            if lock is not None and isinstance(message, Measured):
                _yield_lock(lock, report, device.label)


def _yield_lock(lock: BinaryIO, report: Callable[[Report], None], label: str) -> None:
    """Release the lock between two figures, so that a probe that waits for a first one goes before our next."""
    import fcntl

    fcntl.flock(lock, fcntl.LOCK_UN)
    time.sleep(YIELD_S)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        report(Waiting())
        fcntl.flock(lock, fcntl.LOCK_EX)
        report(Started(device=label))


def _answer(job: Job, report: Callable[[Report], None], contention: Contention, lock: BinaryIO | None) -> None:
    """Answer a challenge on the first device. Orders come from the parent; this process ends when it
    does."""
    _lower_priority(job.nice)
    try:
        from swarm_probe.compute.attestation_worker import answer  # late: these load torch
        from swarm_probe.compute.devices import devices
    except (ImportError, OSError) as error:
        report(Trouble(reason=f"torch cannot be loaded ({error})"))
        return
    assert job.challenge is not None
    orders = (order_from_line(line) for line in iter(sys.stdin.buffer.readline, b""))
    for message in answer(devices(job.ram_limit_bytes)[0], job.challenge, job.node_id, orders):
        report(message)


def _lower_priority(nice: int) -> None:
    """Take the lowest priority on the processor, and be the first to be killed when memory runs out."""
    try:
        os.nice(nice)
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError as error:  # not Linux, or not allowed: the parent's limits still hold
        print(f"cannot lower its own priority ({error})", file=sys.stderr)


def _take_turn(job: Job, report: Callable[[Report], None]) -> BinaryIO | None:
    """Wait for other probes of this machine; the lock ends with the process, however that ends."""
    if not job.lock_path:
        return None
    try:
        import fcntl

        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        lock = os.fdopen(os.open(job.lock_path, flags, 0o600), "rb+", buffering=0)
    except (ImportError, OSError) as error:
        print(f"no lock at {job.lock_path} ({error}); measuring without", file=sys.stderr)
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        report(Waiting())
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _end_with_parent() -> None:
    with suppress(OSError, ValueError):
        while os.read(0, 4096):
            pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
