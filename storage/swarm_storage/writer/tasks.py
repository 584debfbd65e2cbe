"""Define the writer's tasks, how their results are returned, and the order after a refused batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from swarm_storage.errors import OutOfOrder, StoreError
from swarm_storage.writer.transaction import NodeBatch, Transaction

EXPECTED_S: Final = 120.0  # what is in flight behind a refused batch is gone with its connection by then
Epoch = tuple[str, int]


class Committed(msgspec.Struct, frozen=True):
    """Everything of this epoch up to `seq` is on the disk."""

    node_id: str
    epoch: int
    seq: int


Answer = Callable[[int | StoreError], None]  # the committed seq, or why it was not accepted


@dataclass(slots=True)
class Task:
    size: int  # samples
    apply: Callable[[Transaction], Any]
    on_result: Callable[[Any], None]  # its result or a StoreError; on the writer's thread
    batch: NodeBatch | None = None
    decides: bool = False  # it changes what it reads, which no other collector may change meanwhile
    result: Any = None
    since_s: float = field(default_factory=time.monotonic)
    answered: bool = False

    def answer(self, result: Any) -> None:
        """Answer once: a thread that died amid its answers may be followed by one that gives them all back."""
        if not self.answered:
            self.answered = True
            self.on_result(result)


def into(future: Future[Any]) -> Callable[[Any], None]:
    # From here on it cannot be cancelled: a caller that goes away must not undo a commit.
    future.set_running_or_notify_cancel()

    def answer(result: Any) -> None:
        if isinstance(result, StoreError):
            future.set_exception(result)
        else:
            future.set_result(result)

    return answer


class BatchOrder:
    """Refused batches that must be sent again before later ones of their epoch. The caller holds the lock."""

    def __init__(self) -> None:
        self._expected: dict[Epoch, tuple[int, float]] = {}  # lowest refused seq, until when later ones are refused

    def require(self, batch: NodeBatch) -> None:
        """Check that a batch may come now. Raises OutOfOrder."""
        epoch = (batch.node_id, batch.epoch)
        expected = self._expected.get(epoch)
        if expected is None:
            return
        seq, until = expected
        if batch.seq == seq or time.monotonic() >= until:
            del self._expected[epoch]
        elif batch.seq > seq:
            raise OutOfOrder(f"batch {batch.seq} of {batch.node_id} came before the refused {seq}; send {seq} first")

    def expect_again(self, task: Task) -> None:
        """Note that this batch was refused and must come first."""
        if task.batch is None:
            return
        epoch = (task.batch.node_id, task.batch.epoch)
        seq = min(task.batch.seq, self._expected.get(epoch, (task.batch.seq, 0.0))[0])
        self._expected[epoch] = (seq, time.monotonic() + EXPECTED_S)

    def in_turn(self, tasks: Sequence[Task]) -> tuple[list[Task], list[tuple[Task, OutOfOrder]]]:
        """Return (those that may be written, those behind a batch that has failed since they were queued)."""
        now, late = [], []
        for task in tasks:
            if (seq := self._before(task)) is None:
                now.append(task)
            else:
                late.append((task, OutOfOrder(f"batch {seq} failed before this one; send {seq} first")))
        return now, late

    def _before(self, task: Task) -> int | None:
        """Return the refused batch that must come before this one."""
        if task.batch is None or (expected := self._expected.get((task.batch.node_id, task.batch.epoch))) is None:
            return None
        seq, until = expected
        return seq if task.batch.seq > seq and time.monotonic() < until else None

    def reached(self, epoch: Epoch, seq: int) -> None:
        """Note that it was committed."""
        if seq >= self._expected.get(epoch, (seq + 1, 0.0))[0]:
            del self._expected[epoch]

    def forget(self, epoch: Epoch) -> None:
        self._expected.pop(epoch, None)
