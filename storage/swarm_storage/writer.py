"""The one writer: a bounded queue, one thread, one connection, and an answer only after the commit.

`submit` returns a future that holds the committed sequence number once the rows and the moved cursor are on the disk.
What is behind it (SQLite, PostgreSQL) is the business of a `Backend`. Whatever waits when a commit begins goes into it,
so a slow disk makes larger commits, not a longer queue. A batch at or below its cursor is answered and dropped: repeats
change nothing.

Numbers of one epoch may jump (a spool that dropped its oldest), so a jump alone says nothing is missing. Therefore a
refused batch (queue full, disk full) is *owed*: later ones of its epoch are refused too, as OutOfOrder, until it comes
again; else their acknowledgement would cover it. `resume` ends that for a session that begins anew, from the oldest
batch its probe still has: the collector calls it at each Hello.

When the store fails as a whole (disk full, I/O, locked), everything queued fails with the reason, the connection is
closed, and what it remembered with it; after a pause the next batch opens it again. `trouble` says why meanwhile.
A batch that fails alone is found by committing the group one by one, and disturbs nobody else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from swarm_protocol.messages.probe_messages import HostFacts
from swarm_protocol.messages.samples import EventSample, RunSample
from swarm_storage.errors import Closed, OutOfOrder, QueueFull, StoreError
from swarm_storage.sql import Db
from swarm_storage.sqlite.backend import TIDY_EVERY_S, Backend
from swarm_storage.transaction import Known, Member, NodeBatch, Transaction

QUEUE_SAMPLES: Final = 200_000  # some 200 MB at worst; beyond that the probes' spools keep it
COMMIT_SAMPLES: Final = 40_000  # of one commit: bounds how long an answer waits behind a backlog
LINGER_S: Final = 0.01  # batches that come together share one sync of the disk; nobody waits for an answer in 10 ms
BUSY_BATCHES: Final = (
    8  # of one commit: from here on a longer wait makes fewer commits, and each of them rewrites pages
)
BUSY_LINGER_S: Final = 0.1
RETRY_S: Final = (0.25, 5.0)  # first and longest pause after a failure of the whole store
OWED_S: Final = 120.0  # what is in flight behind a refused batch is long gone with its connection by then
CLOSE_S: Final = 10.0  # a graceful stop is followed by a kill somewhere; what is still queued is in the spools

Epoch = tuple[str, int]
_log = logging.getLogger("swarm_storage")


@dataclass(frozen=True, slots=True)
class Committed:
    """Everything of this epoch up to `seq` is on the disk."""

    node_id: str
    epoch: int
    seq: int


Answer = Callable[[int | StoreError], None]  # the committed seq, or why it was not taken


@dataclass(slots=True)
class _Task:
    size: int  # samples
    apply: Callable[[Transaction], Any]
    answer: Callable[[Any], None]  # its result or a StoreError; on the writer's thread
    batch: NodeBatch | None = None
    decides: bool = False
    result: Any = None


def _into(future: Future[Any]) -> Callable[[Any], None]:
    # From here on nobody can cancel it: a caller that goes away must not take a commit with it.
    future.set_running_or_notify_cancel()

    def answer(result: Any) -> None:
        if isinstance(result, StoreError):
            future.set_exception(result)
        else:
            future.set_result(result)

    return answer


class Writer:
    """Made by a store; owns its keeper from then on. All methods may be called from any thread."""

    def __init__(
        self,
        backend: Backend,
        *,
        on_commit: Callable[[Sequence[Committed]], None] | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        queue_samples: int = QUEUE_SAMPLES,
        linger_s: float = LINGER_S,
    ) -> None:
        """`on_commit` runs on the writer's thread after each commit."""
        self._backend = backend
        self._name = backend.name
        self._on_commit = on_commit
        self._clock_ns = clock_ns
        self._queue_samples = queue_samples
        self._linger_s = linger_s
        self._busy = False
        self._wake = threading.Condition()
        self._queue: deque[_Task] = deque()
        self._queued = 0
        self._owed: dict[Epoch, tuple[int, float]] = {}  # lowest refused seq, until when it is waited for
        self._trouble: StoreError | None = None
        self._retry_at = 0.0
        self._pause_s = RETRY_S[0]
        self._closing = False
        self._give_up_at = float("inf")
        self._unwritten: list[NodeBatch] = []
        self._db: Db | None = None
        self._known = Known()
        self._events = 0
        self._tidy_at = time.monotonic() + TIDY_EVERY_S
        self._thread = threading.Thread(target=self._run, name="swarm-store-writer", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ what others call

    def submit(self, batch: NodeBatch) -> Future[int]:
        """Raises QueueFull, OutOfOrder, Closed, or the store's trouble; then nothing was taken."""
        future: Future[int] = Future()
        self.offer(batch, _into(future))
        return future

    def offer(self, batch: NodeBatch, answer: Answer) -> None:
        """`submit` for thousands a second: no future, `answer` is called on the writer's thread and must not raise."""
        self._put(_Task(max(1, len(batch.samples)), lambda transaction: transaction.batch(batch), answer, batch))

    def upsert_node(
        self, node_id: str, name: str, *, host: str = "", facts: HostFacts | None = None, seen_ns: int
    ) -> Future[None]:
        """Who this node is, now. Samples of a node never told of show its id for a name."""
        text = msgspec.json.encode(facts).decode() if facts is not None else None
        member = Member(node_id, name, host, text, seen_ns)
        return self._do(lambda transaction: transaction.member(member))

    def presence(self, node_id: str, text: str | None) -> Future[None]:
        """How a member is there now, for a collector that starts again; None: it has left."""
        return self._do(lambda transaction: transaction.presence(node_id, text))

    def event(self, sample: EventSample | RunSample, node_id: str | None = None) -> Future[None]:
        """What comes from no spool: told by the collector of a node, or (None) of the swarm; or a watched run."""
        with self._wake:
            self._events += 1
            part = self._clock_ns() + self._events
        return self._do(lambda transaction: transaction.event(node_id, sample, part))

    def forget(self, node_id: str) -> Future[int]:
        """Everything that is stored of this node."""
        return self._do(lambda transaction: transaction.forget(node_id))

    def set_setting(self, key: str, value: str) -> Future[None]:
        return self._do(lambda transaction: transaction.setting(key, value))

    def decide(self, decision: Callable[[Transaction], Any]) -> Future[Any]:
        """What `decision` returns, once what it wrote is committed. No other decision runs between its reads and that
        commit, at any collector of the store. It may be called more than once: only the last call counts."""
        return self._do(decision, decides=True)

    def resume(self, node_id: str, epoch: int) -> None:
        """A session begins from the oldest batch its probe has: nothing before that is owed any more."""
        with self._wake:
            self._owed.pop((node_id, epoch), None)

    @property
    def trouble(self) -> StoreError | None:
        """Why nothing is being written; None: all is well as far as is known."""
        return self._trouble

    @property
    def queued(self) -> int:
        """Samples waiting for a commit."""
        return self._queued

    def close(self, timeout_s: float = CLOSE_S) -> list[NodeBatch]:
        """Commits what waits, folds the log into the file, lets go of it. What is returned was not written."""
        with self._wake:
            if not self._closing:
                self._closing = True
                self._give_up_at = time.monotonic() + timeout_s
            self._wake.notify()
        self._thread.join()
        return self._unwritten

    # ------------------------------------------------------------ the queue

    def _do(self, apply: Callable[[Transaction], Any], *, decides: bool = False) -> Future[Any]:
        future: Future[Any] = Future()
        self._put(_Task(1, apply, _into(future), decides=decides))
        return future

    def _put(self, task: _Task) -> None:
        with self._wake:
            if self._closing:
                raise Closed(f"the store {self._name} is being closed; send it again later")
            if task.batch is not None:
                self._require_turn(task.batch)
            if self._trouble is not None and time.monotonic() < self._retry_at:
                self._owe(task)
                raise self._trouble
            if self._queued + task.size > self._queue_samples and self._queue:
                self._owe(task)
                raise QueueFull(f"{self._queued} samples wait to be written to {self._name}; send it again later")
            self._queue.append(task)
            self._queued += task.size
            if len(self._queue) == 1:
                self._wake.notify()

    def _require_turn(self, batch: NodeBatch) -> None:
        epoch = (batch.node_id, batch.epoch)
        owed = self._owed.get(epoch)
        if owed is None:
            return
        seq, until = owed
        if batch.seq == seq or time.monotonic() >= until:
            del self._owed[epoch]
        elif batch.seq > seq:
            raise OutOfOrder(f"batch {batch.seq} of {batch.node_id} came before the refused {seq}; send {seq} first")

    def _owe(self, task: _Task) -> None:
        if task.batch is None:
            return
        epoch = (task.batch.node_id, task.batch.epoch)
        seq = min(task.batch.seq, self._owed.get(epoch, (task.batch.seq, 0.0))[0])
        self._owed[epoch] = (seq, time.monotonic() + OWED_S)

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        while (tasks := self._take()) is not None:
            if tasks:
                self._write(tasks)
            if time.monotonic() >= self._tidy_at:
                self._tidy()
        self._end()

    def _take(self) -> list[_Task] | None:
        """What goes into the next commit; empty when it is time to tidy up, None at the end."""
        with self._wake:
            if not self._queue and not self._closing:
                self._wake.wait(max(0.0, self._tidy_at - time.monotonic()))
            if self._closing and (not self._queue or time.monotonic() >= self._give_up_at):
                return None
            linger = self._queue and not self._closing and self._queued < COMMIT_SAMPLES
        if linger and self._linger_s:
            time.sleep(BUSY_LINGER_S if self._busy else self._linger_s)
        tasks: list[_Task] = []
        with self._wake:
            size = 0
            while self._queue and (not tasks or size + self._queue[0].size <= COMMIT_SAMPLES):
                tasks.append(self._queue.popleft())
                size += tasks[-1].size
            self._queued -= size
        if tasks:
            self._busy = len(tasks) >= BUSY_BATCHES
        return tasks

    def _write(self, tasks: list[_Task]) -> None:
        tasks = self._in_turn(tasks)
        try:
            self._commit(tasks)
        except StoreError as error:
            self._fail(tasks, error)
        except Exception as error:  # noqa: BLE001 - one bad task must not end the thread, nor pass in silence
            self._rollback()
            if len(tasks) == 1:
                _log.error("a task for %s failed: %r", self._name, error, exc_info=error)
                with self._wake:
                    self._owe(tasks[0])
                tasks[0].answer(StoreError(f"could not be written to {self._name} ({error!r})"))
            else:
                for task in tasks:
                    self._write([task])
        else:
            self._answer(tasks)

    def _in_turn(self, tasks: list[_Task]) -> list[_Task]:
        """Refuses what lies behind a batch that has failed since these were queued."""
        late: list[tuple[_Task, int]] = []
        with self._wake:
            for task in tasks:
                if task.batch is not None and (owed := self._owed.get((task.batch.node_id, task.batch.epoch))):
                    seq, until = owed
                    if task.batch.seq > seq and time.monotonic() < until:
                        late.append((task, seq))
        for task, seq in late:
            task.answer(OutOfOrder(f"batch {seq} failed before this one; send {seq} first"))
        refused = {id(task) for task, _ in late}
        return [task for task in tasks if id(task) not in refused]

    def _commit(self, tasks: list[_Task]) -> None:
        try:
            if self._db is None:
                self._db = self._backend.connect()
            db = self._db
            batches = [task.batch for task in tasks if task.batch is not None]
            self._backend.before(db, batches)
            db.begin()
            self._backend.begun(db, deciding=any(task.decides for task in tasks))
            transaction = Transaction(db, self._known)
            transaction.expect(batches)
            for task in tasks:
                task.result = task.apply(transaction)
            transaction.flush()
            db.commit()
            transaction.committed()
        except StoreError:
            raise
        except Exception as error:
            if (mapped := self._backend.error(error)) is not None:
                raise mapped from error
            raise  # of one task, not of the store

    def _answer(self, tasks: list[_Task]) -> None:
        if self._trouble is not None:
            _log.warning("writing to %s again", self._name)
            self._trouble, self._pause_s = None, RETRY_S[0]
        acknowledged = {
            (task.batch.node_id, task.batch.epoch): int(task.result) for task in tasks if task.batch is not None
        }
        with self._wake:
            for epoch, seq in acknowledged.items():
                if seq >= self._owed.get(epoch, (seq + 1, 0.0))[0]:
                    del self._owed[epoch]
        for task in tasks:
            task.answer(task.result)
        if self._on_commit is not None and acknowledged:
            try:
                self._on_commit([Committed(*epoch, seq) for epoch, seq in acknowledged.items()])
            except Exception:  # noqa: BLE001 - somebody else's code; this thread must outlive it
                _log.exception("the hook after a commit failed; the commit stands")

    def _fail(self, tasks: list[_Task], error: StoreError) -> None:
        """The store as a whole does not take anything: give back all that waits, and pause."""
        if self._trouble is None or type(self._trouble) is not type(error):
            _log.error("%s; intake is paused and tried again", error)
        with self._wake:
            tasks = [*tasks, *self._queue]
            self._queue.clear()
            self._queued = 0
            for task in tasks:
                self._owe(task)
            self._trouble = error
            self._retry_at = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, RETRY_S[1])
            if self._closing:
                self._unwritten.extend(task.batch for task in tasks if task.batch is not None)
        self._drop_connection()
        if not self._closing:
            self._db = self._backend.relieve(error)
        for task in tasks:
            task.answer(error)

    def _rollback(self) -> None:
        if self._db is not None and self._db.in_transaction:
            try:
                self._db.rollback()
            except Exception as error:  # noqa: BLE001 - whatever the driver raises; the connection is given up
                _log.error("%s: rolling back failed (%s); opening it anew", self._name, error)
                self._drop_connection()

    def _drop_connection(self) -> None:
        db, self._db = self._db, None
        self._known = Known()  # a commit that failed in its sync may be there after all: ask the file again
        if db is not None:
            try:
                db.close()
            except Exception as error:  # noqa: BLE001 - whatever the driver raises; it is given up either way
                _log.error("%s: closing failed (%s)", self._name, error)

    def _tidy(self) -> None:
        pause_s = TIDY_EVERY_S
        if self._db is not None:
            try:
                pause_s = self._backend.tidy(self._db, self._known, busy=bool(self._queue), well=self._trouble is None)
            except StoreError as error:
                self._fail([], error)
            except Exception as error:  # noqa: BLE001 - one that fails must neither end the thread nor pass in silence
                mapped = self._backend.error(error)
                if mapped is None:
                    _log.error("the upkeep of %s failed: %r", self._name, error, exc_info=error)
                    self._drop_connection()
                else:
                    self._fail([], mapped)
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
        db, self._db = self._db, None
        try:
            self._backend.end(db, well=self._trouble is None)
        except Exception as error:  # noqa: BLE001 - whatever the driver raises; what was committed is safe
            _log.error("%s: closing failed (%s)", self._name, error)
