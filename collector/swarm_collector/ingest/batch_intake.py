"""Pass checked batches to the store, and tell the probe whether each was committed or must be kept.

Nothing is acknowledged before its commit. Trouble with the store (a full disk, a lock) is reported once when it begins
and once when it ends, however many batches are refused meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from swarm_collector.metrics import Histogram
from swarm_storage.errors import OutOfOrder, QueueFull, StoreError
from swarm_storage.writer.transaction import NodeBatch

BEHIND_MS: Final = 1_000.0  # the writer's queue empties many times within this
CREDITS: Final = ((0.1, 8), (0.3, 4), (0.5, 2), (float("inf"), 1))  # (fullness of the queue below, batches in flight)
TROUBLE_MS: Final = 5_000.0  # people have to free space first; frequent retries are useless


class NotCommitted(Exception):
    """The batch was not taken; the probe's spool keeps it."""

    def __init__(self, reason: str, retry_ms: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_ms = retry_ms


Done = Callable[[int | NotCommitted], None]  # the committed sequence number, or why the probe must keep it


class Answers:
    """Pass answers from the store's thread to the event loop, all of one commit with one wake-up.

    asyncio.wrap_future wakes the loop once for each future, which at a thousand batches a second is most of the work.
    """

    def __init__(self) -> None:
        self._answered: deque[tuple[Callable[[int | StoreError], None], int | StoreError]] = deque()
        self._lock = threading.Lock()
        self._waking = False
        self._loop: asyncio.AbstractEventLoop | None = None  # kept: looking it up is a system call in Python 3.11

    def to(self, take: Callable[[int | StoreError], None]) -> Callable[[int | StoreError], None]:
        """Return `take` as a function that any thread may call and that runs in the loop of the first call."""
        loop = self._loop = self._loop or asyncio.get_running_loop()

        def answered(answer: int | StoreError) -> None:
            self._answered.append((take, answer))
            with self._lock:
                waking, self._waking = self._waking, True
            if not waking and not loop.is_closed():
                loop.call_soon_threadsafe(self._hand_over)

        return answered

    def _hand_over(self) -> None:
        with self._lock:
            self._waking = False
        while self._answered:
            take, answer = self._answered.popleft()
            take(answer)


@dataclass(slots=True)
class BatchIntake:
    submit: Callable[[NodeBatch, Callable[[int | StoreError], None]], None]
    on_trouble: Callable[[str], None]  # why nothing is accepted any more
    on_recovery: Callable[[str], None]  # what the trouble was
    rng: random.Random
    fullness: Callable[[], float] = lambda: 0.0  # of the writer's queue, 0 to 1
    trouble: str | None = None
    committed_batches: int = 0
    committed_samples: int = 0
    refused_batches: int = 0
    commit_s: Histogram = field(default_factory=Histogram)
    _answers: Answers = field(default_factory=Answers)

    @property
    def credit(self) -> int:
        """Return how many batches a probe may have in flight: many while nothing waits, so that a spool empties soon;
        one at a time well before the queue is full."""
        fullness = self.fullness()
        if fullness < CREDITS[0][0]:  # as nearly always
            return CREDITS[0][1]
        return next(credit for below, credit in CREDITS if fullness < below)

    def commit(self, batch: NodeBatch, done: Done) -> None:
        """Submit a batch. `done` receives, in the event loop, the sequence number up to which everything of this node
        and epoch is committed, or why not. Raises NotCommitted where that is known at once."""
        began = time.monotonic()

        def take(answer: int | StoreError) -> None:
            if isinstance(answer, StoreError):
                done(self._refused(answer))
                return
            self.commit_s.observe(time.monotonic() - began)
            self.committed_batches += 1
            self.committed_samples += batch.size
            if self.trouble is not None:
                was, self.trouble = self.trouble, None
                self.on_recovery(was)
            done(answer)

        try:
            self.submit(batch, self._answers.to(take))
        except StoreError as error:
            raise self._refused(error) from error

    def noticed(self, condition: StoreError | None) -> None:
        """Take the store's condition, observed without a batch: report when trouble begins and when it is over."""
        if condition is None:
            if self.trouble is not None:
                was, self.trouble = self.trouble, None
                self.on_recovery(was)
        elif self.trouble is None:
            self.trouble = str(condition)
            self.on_trouble(self.trouble)

    def _refused(self, error: StoreError) -> NotCommitted:
        self.refused_batches += 1
        if isinstance(error, QueueFull | OutOfOrder):  # busy, not broken
            return NotCommitted("the collector is behind on writing", self._jittered(BEHIND_MS))
        reason = str(error)
        if self.trouble is None:
            self.trouble = reason
            self.on_trouble(reason)
        return NotCommitted("the collector cannot store anything now", self._jittered(TROUBLE_MS))

    def _jittered(self, wait_ms: float) -> float:
        """Spread retries: probes refused together must not return together."""
        return wait_ms * self.rng.uniform(0.5, 1.5)
