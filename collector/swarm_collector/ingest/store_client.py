"""Use the store for the collector: known nodes, committed batches, and history for viewers.

The only module that knows `swarm_storage`'s objects. Reads run in a few threads of their own, so that a slow disk
delays charts and exports and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from swarm_collector.members.membership import Member, NodeEvent
from swarm_collector.members.presence import presence_of
from swarm_protocol.messages.probe_messages import Hello
from swarm_protocol.messages.samples import EventSample, RunSample
from swarm_protocol.messages.viewer_messages import HistoryRequest
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S
from swarm_storage import csv_format
from swarm_storage.errors import StoreError
from swarm_storage.history.members import WINDOW_S
from swarm_storage.history.recording import History, NodeRow
from swarm_storage.history.replay import fill
from swarm_storage.history.retention import RETAIN_NS
from swarm_storage.node_erasure import Held, held
from swarm_storage.store import open_store
from swarm_storage.writer.transaction import NodeBatch, Transaction
from swarm_storage.writer.writer import QUEUE_SAMPLES

READERS: Final = 2  # a long export leaves the other for charts

_log = logging.getLogger("swarm_collector.store")
_T = TypeVar("_T")


class StoreClient:
    """The collector's access to the store. Raises StoreError if the store cannot be opened for writing."""

    def __init__(self, url: str, *, retain_ns: int | None = RETAIN_NS) -> None:
        self._store = open_store(url)
        self._reader = self._store.reader
        self._writer = self._store.writer(retain_ns=retain_ns)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="swarm-store-reader")
        self._untold: dict[str, Callable[[], Future[None]]] = {}  # nodes that could not be stored yet

    def close(self) -> None:
        """Commit what waits. What could not be written is still in the probes' spools; the writer says so."""
        self._store.close()
        self._threads.shutdown()

    def restore(self, builder: SwarmBuilder, now_ns: int) -> tuple[NodeRow, ...]:
        """Put what was known before into `builder`; return all members ever known."""
        fill(builder, self._reader, now_ns, round(WINDOW_S * NS_PER_S))
        return self._reader.nodes()

    @property
    def shared_url(self) -> str | None:
        """Return how other collectors reach the same store; None: only this collector can."""
        return self._store.shared_url()

    def secret(self, own: bytes) -> bytes:
        return self._store.secret(own)

    @property
    def queued(self) -> int:
        """Return the number of samples that wait to be committed."""
        return self._writer.queued

    def fullness(self) -> float:
        """Return how full the writer's queue is, from 0 (empty) to 1 (nothing more is accepted)."""
        return self._writer.queued / QUEUE_SAMPLES

    @property
    def condition(self) -> StoreError | None:
        """Return why what is accepted now might not be kept; None: no trouble is known."""
        return self._writer.condition

    @property
    def writing(self) -> bool:
        """Return whether the writer's thread is alive."""
        return self._writer.alive

    def restart_writing(self) -> None:
        self._writer.restart()

    @property
    def since_commit_s(self) -> float | None:
        """Return the seconds since the last commit; None: nothing was committed yet."""
        at_s = self._writer.committed_at_s
        return None if at_s is None else time.monotonic() - at_s

    @property
    def check_due(self) -> bool:
        return self._store.check_due

    async def check(self) -> None:
        """Run a step of the integrity check. Raises StoreError; damage has stopped the writer then."""
        await self.reading(self._store.check)

    @property
    def checked_s(self) -> float | None:
        """Return how long ago the whole store was found sound; None: not since the start, or not known here."""
        passed = self._store.check_passed
        return None if passed is None else max(0, time.time_ns() - passed.at_ns) / NS_PER_S

    def sizes(self) -> dict[str, float]:
        """Return bytes on the disk, by part."""
        return dict(self._store.sizes())

    def settings(self) -> dict[str, str]:
        return self._reader.settings()

    def transfers_since(self, since_ns: int) -> list[tuple[int, str, str, int]]:
        """Return (until, sender, receiver, bytes) of past transfers, oldest first, summed over some minutes."""
        return self._reader.transfers(since_ns)

    async def reading(self, read: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    # ------------------------------------------------------------ writing

    def submit(self, batch: NodeBatch, answer: Callable[[int | StoreError], None]) -> None:
        """Queue a batch; `answer` is called on the writer's thread. Raises StoreError if it cannot be queued."""
        if self._untold and self._writer.trouble is None:
            self._tell_again()
        self._writer.offer(batch, answer)

    def resume(self, node_id: str, epoch: int) -> None:
        """Expect the probe to begin again from the oldest batch it has."""
        self._writer.resume(node_id, epoch)

    async def remember(self, member: Member, hello: Hello, now_ns: int) -> None:
        """Store the node, later if the store has trouble now."""

        def upsert() -> Future[None]:
            return self._writer.upsert_node(
                member.node_id, member.name, host=member.where.observed, facts=hello.facts, seen_ns=now_ns
            )

        try:
            told = asyncio.wrap_future(upsert())
            self.present(member)
            await asyncio.shield(told)
            self._untold.pop(member.node_id, None)
        except StoreError as error:
            _log.warning("%s will be stored later: %s", member.name, safe(str(error)))
            self._untold[member.node_id] = upsert

    async def committed(self, node_id: str, epoch: int) -> int:
        """Return the committed sequence number of this epoch. Raises StoreError if not even reading works."""
        return await self.reading(lambda: self._reader.committed_seq(node_id, epoch))

    async def decide(self, decision: Callable[[Transaction], _T]) -> _T:
        """Run a decision in the store; return its result once its writes are committed. No other decision runs
        meanwhile.

        Raises StoreError.
        """
        outcome: _T = await asyncio.wrap_future(self._writer.decide(decision))
        return outcome

    def present(self, member: Member) -> None:
        """Store how a member is connected now, or that it has left, if the store accepts it."""
        try:
            self._writer.presence(member.node_id, presence_of(member)).add_done_callback(_event_done)
        except StoreError as error:
            _event_lost(error)

    async def forget(self, node_id: str) -> int:
        """Delete everything about this node; return the number of rows. Raises StoreError."""
        return await asyncio.wrap_future(self._writer.forget(node_id))

    def held(self, node_id: str) -> list[Held]:
        """Count what is stored about a node; run it with `reading`."""
        return held(self._reader.query, node_id)

    def set_setting(self, key: str, value: str) -> None:
        """Store a setting, if the store accepts it."""
        try:
            self._writer.set_setting(key, value).add_done_callback(_event_done)
        except StoreError as error:
            _event_lost(error)

    def event(self, at_ns: int, told: NodeEvent, detail: str) -> None:
        """Store an event if the store accepts it; the log has its line already."""
        sample = EventSample(at_ns=at_ns, kind=told.kind, detail=detail)
        try:
            self._writer.event(sample, told.node_id).add_done_callback(_event_done)
        except StoreError as error:
            _event_lost(error)

    async def run(self, run: RunSample) -> None:
        """Store a run; return once it is committed. Raises StoreError if the store does not accept it."""
        await asyncio.shield(asyncio.wrap_future(self._writer.event(run)))

    def _tell_again(self) -> None:
        untold, self._untold = self._untold, {}
        for node_id, upsert in untold.items():
            try:
                upsert().add_done_callback(_event_done)
            except StoreError as error:
                _event_lost(error)
                self._untold[node_id] = upsert

    # ------------------------------------------------------------ reading, to be run by `reading`

    def history(self, request: HistoryRequest) -> History:
        return self._reader.history(
            request.metric, request.node, request.peer, request.since_ns, request.until_ns, request.points
        )

    def csv(self, kind: str, since_ns: int, until_ns: int) -> Iterator[tuple[str, int]]:
        """Yield (text, rows so far), the header first. Each step reads a piece."""
        return csv_format.chunks(self._reader, kind, since_ns, until_ns)


def _event_done(future: Future[None]) -> None:
    if (error := future.exception()) is not None:
        _event_lost(error)


def _event_lost(error: BaseException) -> None:
    _log.warning("not stored: %s", safe(str(error)))
