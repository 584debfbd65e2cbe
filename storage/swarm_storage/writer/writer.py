"""Run the one writer: a bounded queue, one thread, one connection, and an answer only after the commit.

`submit` returns a future that holds the committed sequence number once the rows and the moved cursor are on the disk. A
`Backend` hides the database (SQLite, PostgreSQL). Whatever waits when a commit begins goes into it, so a slow disk
makes larger commits, not a longer queue. A batch at or below its cursor is answered and dropped: repeats change
nothing.

Numbers of one epoch may jump (a spool that dropped its oldest), so a jump alone does not show that something is
missing. Therefore, after a refused batch (queue full, disk full), later ones of its epoch are refused too, as
OutOfOrder, until it is sent again; otherwise their acknowledgement would cover it. `resume` ends that for a session
that begins again from the oldest batch its probe still has: the collector calls it at each Hello.

When the store fails as a whole (disk full, I/O, locked), everything queued fails with the reason, the connection is
closed together with its caches; after a pause the next batch opens it again. `trouble` says why meanwhile. A batch that
fails alone is found by committing the group one by one, and disturbs no others.

A damaged file accepts nothing more until the store is opened again. If the thread itself ends, everything that waited
fails, nothing is accepted, and `restart` continues from what is on the disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any, Final

import msgspec

from swarm_protocol.messages.probe_messages import HostFacts
from swarm_protocol.messages.samples import EventSample, RunSample
from swarm_storage.errors import (
    Closed,
    Corrupt,
    DiskFailed,
    Moved,
    NotADatabase,
    QueueFull,
    Stalled,
    StoreError,
    WriterDied,
)
from swarm_storage.writer.backend import Backend
from swarm_storage.writer.connection import Connection
from swarm_storage.writer.tasks import Answer, BatchOrder, Committed, Task, into
from swarm_storage.writer.transaction import Member, NodeBatch, Transaction
from swarm_storage.writer.upkeep import TIDY_EVERY_S

QUEUE_SAMPLES: Final = 200_000  # some 200 MB at worst; beyond that the probes' spools keep it
COMMIT_SAMPLES: Final = 40_000  # of one commit: bounds how long an answer waits behind a backlog
LINGER_S: Final = 0.01  # batches that come together share one sync of the disk; no caller needs an answer within 10 ms
# Batches of one commit from which on to wait longer, and how long. Each commit rewrites pages that the next one
# rewrites too: in a file of 10,000 nodes, 250 batches at once take a fifth less CPU each than 100, which take a tenth
# less than 50. A collector with so many probes has no use for an earlier answer.
LONGER_LINGER_S: Final = ((64, 0.25), (8, 0.1))
QUIET: Final = 0.25  # of that wait, without a batch: whoever sends waits for the answer
LINGER_SAMPLES: Final = 4_000  # waiting: writing them takes longer than the sync they would share
RETRY_S: Final = (0.25, 5.0)  # first and longest pause after a failure of the whole store
STALLED_S: Final = 30.0  # longest wait of a task: far above a commit of the largest size on a busy file
CLOSE_S: Final = 10.0  # a graceful stop is followed by a kill at some point; what is still queued is in the spools

_log = logging.getLogger("swarm_storage")


class Writer:
    """Created by a store; owns its backend from then on. All methods may be called from any thread."""

    def __init__(
        self,
        backend: Backend,
        *,
        on_commit: Callable[[Sequence[Committed]], None] | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        queue_samples: int = QUEUE_SAMPLES,
        linger_s: float = LINGER_S,
    ) -> None:
        """Create it. `on_commit` runs on the writer's thread after each commit."""
        self._backend = backend
        self._connection = Connection(backend)
        self._name = backend.name
        self._on_commit = on_commit
        self._clock_ns = clock_ns
        self._queue_samples = queue_samples
        self._linger_s = linger_s
        self._batches = 0  # of the commit before
        self._wake = threading.Condition()
        self._queue: deque[Task] = deque()
        self._queued = 0
        self._batch_order = BatchOrder()
        self._taken: list[Task] = []  # from the queue, on the way into a commit
        self._trouble: StoreError | None = None
        self._damage: StoreError | None = None  # stays until the store is opened again
        self._death: StoreError | None = None  # of the thread
        self.committed_at_s: float | None = None  # the latest commit, monotonic
        self._retry_at = 0.0
        self._pause_s = RETRY_S[0]
        self._closing = False
        self._give_up_at = float("inf")
        self._unwritten: list[NodeBatch] = []
        self._events = 0
        self._tidy_at = time.monotonic() + TIDY_EVERY_S
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="swarm-store-writer", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ public interface

    def submit(self, batch: NodeBatch) -> Future[int]:
        """Queue a batch. Raises QueueFull, OutOfOrder, Closed, or the store's trouble; then nothing was accepted."""
        future: Future[int] = Future()
        self.offer(batch, into(future))
        return future

    def offer(self, batch: NodeBatch, answer: Answer) -> None:
        """`submit` for thousands a second: no future; `answer` is called on the writer's thread and must not raise."""
        self._put(Task(max(1, batch.size), lambda transaction: transaction.batch(batch), answer, batch))

    def upsert_node(
        self, node_id: str, name: str, *, host: str = "", facts: HostFacts | None = None, seen_ns: int
    ) -> Future[None]:
        """Insert or update a node. Samples of a node without a row show its id as its name."""
        text = msgspec.json.encode(facts).decode() if facts is not None else None
        member = Member(node_id, name, host, text, seen_ns)
        return self._do(lambda transaction: transaction.member(member))

    def presence(self, node_id: str, text: str | None) -> Future[None]:
        """Store how a member is connected now, for a collector that restarts; None: it has left."""
        return self._do(lambda transaction: transaction.presence(node_id, text))

    def event(self, sample: EventSample | RunSample, node_id: str | None = None) -> Future[None]:
        """Store what comes from no spool: an event about a node or (None) the swarm, or a watched run."""
        with self._wake:
            self._events += 1
            part = self._clock_ns() + self._events
        return self._do(lambda transaction: transaction.event(node_id, sample, part))

    def forget(self, node_id: str) -> Future[int]:
        """Delete everything that is stored of this node."""
        return self._do(lambda transaction: transaction.forget(node_id))

    def set_setting(self, key: str, value: str) -> Future[None]:
        return self._do(lambda transaction: transaction.setting(key, value))

    def decide(self, decision: Callable[[Transaction], Any]) -> Future[Any]:
        """Return the result of `decision`, once what it wrote is committed. No other decision runs between its reads
        and that commit, at any collector of the store. It may be called more than once: only the last call counts."""
        return self._do(decision, decides=True)

    def resume(self, node_id: str, epoch: int) -> None:
        """Begin again from the oldest batch that the probe has: earlier refused ones are no longer expected."""
        with self._wake:
            self._batch_order.forget((node_id, epoch))

    @property
    def trouble(self) -> StoreError | None:
        """Return why nothing is being written; None: no trouble is known."""
        return self._damage or self._dead or self._trouble

    @property
    def condition(self) -> StoreError | None:
        """Return `trouble`, or what has not failed a commit yet: one that does not end, files that were replaced."""
        if (known := self.trouble) is not None:
            return known
        if (waited_s := self._waited_s()) > STALLED_S:
            return Stalled(f"{self._name} has not finished a commit for {waited_s:.0f} s; check the disk under it")
        if (moved := self._backend.condition()) is not None:
            with self._wake:
                self._tidy_at = 0.0  # the thread handles it, though nothing may come to be written
                self._wake.notify()
        return moved

    @property
    def alive(self) -> bool:
        """Return whether its thread runs."""
        return self._thread.is_alive()

    def stop_intake(self, damage: StoreError) -> None:
        """Accept and acknowledge nothing from now on: the file was found to be damaged."""
        with self._wake:
            if self._damage is None:
                self._damage = damage
                _log.error("%s; no more samples are accepted", damage)

    def restart(self) -> bool:
        """Start a new thread where the former one has ended; return whether that was so. What waited has failed."""
        with self._wake:
            if self._closing or self._thread.is_alive():
                return False
        self._fail_all(WriterDied(f"the thread that writes {self._name} ended"))
        with self._wake:
            self._death = None
        self._start()
        return True

    @property
    def queued(self) -> int:
        """Return the number of samples waiting for a commit."""
        return self._queued

    def close(self, timeout_s: float = CLOSE_S) -> list[NodeBatch]:
        """Commit what waits, fold the log into the file, close it. Return what was not written."""
        with self._wake:
            if not self._closing:
                self._closing = True
                self._give_up_at = time.monotonic() + timeout_s
            self._wake.notify()
        self._thread.join()
        if self._death is not None or self._taken:  # it did not end by itself
            self._end()
        return self._unwritten

    # ------------------------------------------------------------ the queue

    def _do(self, apply: Callable[[Transaction], Any], *, decides: bool = False) -> Future[Any]:
        future: Future[Any] = Future()
        self._put(Task(1, apply, into(future), decides=decides))
        return future

    def _put(self, task: Task) -> None:
        with self._wake:
            if self._closing:
                raise Closed(f"the store {self._name} is being closed; send it again later")
            if (never := self._damage or self._dead) is not None:
                self._batch_order.expect_again(task)
                raise never
            if task.batch is not None:
                self._batch_order.require(task.batch)
            if self._trouble is not None and time.monotonic() < self._retry_at:
                self._batch_order.expect_again(task)
                raise self._trouble
            if self._queued + task.size > self._queue_samples and self._queue:
                self._batch_order.expect_again(task)
                raise QueueFull(f"{self._queued} samples wait to be written to {self._name}; send it again later")
            self._queue.append(task)
            before, self._queued = self._queued, self._queued + task.size
            if len(self._queue) == 1 or before < LINGER_SAMPLES <= self._queued:
                self._wake.notify()

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while (tasks := self._take()) is not None:
                if tasks:
                    self._write(tasks)
                    self._taken = []
                if time.monotonic() >= self._tidy_at:
                    self._tidy()
        except BaseException as error:  # noqa: BLE001 - whatever it was, callers must learn that nothing is written
            _log.critical("the thread that writes %s ended: %r", self._name, error, exc_info=error)
            self._fail_all(WriterDied(f"the thread that writes {self._name} ended ({error!r})"))
            return
        self._end()

    @property
    def _dead(self) -> StoreError | None:
        if self._death is None and not self._closing and not self._thread.is_alive():
            return WriterDied(f"the thread that writes {self._name} has ended")
        return self._death

    def _waited_s(self) -> float:
        """Return how long the oldest waiting task has waited."""
        with self._wake:
            oldest = next((task for task in (*self._taken[:1], *islice(self._queue, 1))), None)
        return time.monotonic() - oldest.since_s if oldest is not None else 0.0

    def _fail_all(self, death: StoreError) -> None:
        """Fail all that the thread had; only while it does not run, or from its own last lines."""
        with self._wake:
            self._death = death
            tasks = [*self._taken, *self._queue]
            self._queue.clear()
            self._taken = []
            self._queued = 0
            tasks = [task for task in tasks if not task.answered]
            for task in tasks:
                self._batch_order.expect_again(task)
            if self._closing:
                self._unwritten.extend(task.batch for task in tasks if task.batch is not None)
        self._connection.drop()
        for task in tasks:
            try:
                task.answer(death)
            except Exception:  # noqa: BLE001 - perhaps what ended the thread; the others must be answered all the same
                _log.exception("a caller waiting for %s could not be notified", self._name)

    def _take(self) -> list[Task] | None:
        """Return what goes into the next commit; empty when it is time to tidy up, None at the end."""
        with self._wake:
            if not self._queue and not self._closing:
                self._wake.wait(max(0.0, self._tidy_at - time.monotonic()))
            if self._closing and (not self._queue or time.monotonic() >= self._give_up_at):
                return None
            if self._queue and self._linger_s:
                self._gather()
            tasks: list[Task] = []
            self._taken = tasks
            size = 0
            while self._queue and (not tasks or size + self._queue[0].size <= COMMIT_SAMPLES):
                tasks.append(self._queue.popleft())
                size += tasks[-1].size
            self._queued -= size
        if tasks:
            self._batches = len(tasks)
        return tasks

    def _gather(self) -> None:
        """Wait for more batches as long as they keep coming, with the lock held."""
        longest_s = next((wait_s for least, wait_s in LONGER_LINGER_S if self._batches >= least), self._linger_s)
        quiet_s = max(QUIET * longest_s, self._linger_s)
        ends = time.monotonic() + longest_s
        known = 0
        while (left_s := ends - time.monotonic()) > 0 and len(self._queue) > known:
            known = len(self._queue)
            if self._wake.wait_for(lambda: self._closing or self._queued >= LINGER_SAMPLES, min(left_s, quiet_s)):
                return

    def _write(self, tasks: list[Task]) -> None:
        with self._wake:
            tasks, late = self._batch_order.in_turn(tasks)
        for task, refusal in late:
            task.answer(refusal)
        try:
            self._connection.commit(tasks, lambda: self._damage)
        except StoreError as error:
            self._fail(tasks, error)
        except Exception as error:  # noqa: BLE001 - one bad task must not end the thread, nor pass in silence
            self._connection.rollback()
            if len(tasks) == 1:
                _log.error("a task for %s failed: %r", self._name, error, exc_info=error)
                with self._wake:
                    self._batch_order.expect_again(tasks[0])
                tasks[0].answer(StoreError(f"could not be written to {self._name} ({error!r})"))
            else:
                for task in tasks:
                    self._write([task])
        else:
            self._answer(tasks)

    def _answer(self, tasks: list[Task]) -> None:
        if self._trouble is not None:
            _log.debug("writing to %s again", self._name)  # the owner is told, and logs it
            self._trouble, self._pause_s = None, RETRY_S[0]
        self.committed_at_s = time.monotonic()
        acknowledged = {
            (task.batch.node_id, task.batch.epoch): int(task.result) for task in tasks if task.batch is not None
        }
        with self._wake:
            for epoch, seq in acknowledged.items():
                self._batch_order.reached(epoch, seq)
        for task in tasks:
            task.answer(task.result)
        if self._on_commit is not None and acknowledged:
            try:
                self._on_commit([Committed(*epoch, seq) for epoch, seq in acknowledged.items()])
            except Exception:  # noqa: BLE001 - foreign code; this thread must survive it
                _log.exception("the hook after a commit failed; the commit stands")

    def _fail(self, tasks: list[Task], error: StoreError) -> None:
        """Fail all that waits because the store as a whole refuses, and pause."""
        if isinstance(error, Corrupt | NotADatabase) and not isinstance(error, DiskFailed):
            self.stop_intake(error)
        elif self._trouble is None or type(self._trouble) is not type(error):
            _log.debug("%s; intake is paused and tried again", error)
        with self._wake:
            tasks = [*tasks, *self._queue]
            self._queue.clear()
            self._queued = 0
            for task in tasks:
                self._batch_order.expect_again(task)
            self._trouble = error
            self._retry_at = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, RETRY_S[1])
            if self._closing:
                self._unwritten.extend(task.batch for task in tasks if task.batch is not None)
        self._connection.drop()
        if not self._closing and self._damage is None:
            self._connection.db = self._backend.relieve(error)
        for task in tasks:
            task.answer(error)

    def _tidy(self) -> None:
        if isinstance(self._trouble, Moved) and self._damage is None:
            self._write([])  # are the files back? Perhaps nothing else will come that would test it
            self._tidy_at = max(self._retry_at, time.monotonic() + RETRY_S[0])
            return
        pause_s = TIDY_EVERY_S
        try:
            pause_s = self._connection.tidy(busy=bool(self._queue), well=self._trouble is None) or TIDY_EVERY_S
        except StoreError as error:
            self._fail([], error)
        except Exception as error:  # noqa: BLE001 - one that fails must neither end the thread nor pass in silence
            _log.error("the upkeep of %s failed: %r", self._name, error, exc_info=error)
            self._connection.drop()
        self._tidy_at = time.monotonic() + pause_s

    def _end(self) -> None:
        with self._wake:
            left = list(self._queue)
            self._queue.clear()
            self._queued = 0
        self._unwritten.extend(task.batch for task in left if task.batch is not None)
        for task in left:
            task.answer(Closed(f"the store {self._name} was closed before this was written"))
        if self._unwritten:
            _log.warning("%d batches were not written to %s; the probes keep them", len(self._unwritten), self._name)
        self._connection.end(well=self.trouble is None)
