"""Use a recorded database as a source: the swarm at a moment, a metric's history, samples as CSV.

The store reads in threads, so that a long query never stops the screen.

A recording of a collector that did not look for changes yet has no events of them: they are found once, from its
samples, by the collector's own detector, and shown among the others. CSV has what is stored.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from swarm_collector.process.memory import hand_back
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.snapshot.swarm import Event, Member, State, Swarm
from swarm_protocol.text import safe
from swarm_storage.csv_format import chunks
from swarm_storage.errors import StoreError
from swarm_storage.history.initial_view import before_departures, measured_for
from swarm_storage.history.members import list_members, members_at, members_until
from swarm_storage.store import open_store
from swarmtop.errors import WorkerEnded
from swarmtop.option_types import at_ns
from swarmtop.sources import recorded_changes
from swarmtop.sources.source import History, Mode, SourceError, Span
from swarmtop.text import quantities

if TYPE_CHECKING:
    from swarmtop.worker_process.process import WorkerProcess

WAIT_S: Final = 2.0  # for changes to be found, before the moment is shown without
MANY: Final = 100  # members; the links of fewer are read before a frame of members could be drawn
DEPARTURES_TRIED: Final = 20  # moments at which machines went; each is a state rebuilt

_T = TypeVar("_T")

GONE: Final = (State.LOST, State.LEFT)


class ReplaySource:
    mode: Mode = "replay"

    def __init__(self, file: str, at: str | None = None, *, for_screen: bool = False) -> None:
        """Opens the file for reading. `at`: the moment to begin at, as `args.when` takes it; `-45s` counts from the end
        of the recording. `for_screen`: the first frame of many members is one of members only, marked `unread`; and
        none waits for changes that have to be found, but comes again with them. Raises SourceError."""
        self._for_screen = for_screen
        self.title = safe(Path(file).name)
        try:
            self._store = open_store(file, read_only=True)
        except StoreError as error:
            raise SourceError(safe(str(error)), 2) from error
        self._reader = self._store.reader
        self._at = at
        self._span: Span | None = None
        self._finding: asyncio.Task[tuple[Event, ...]] | None = None
        self._closing = threading.Event()
        self._worker: WorkerProcess | None = None  # that looks for changes
        self._file = file

    async def members(self) -> tuple[Member, ...]:
        """Return many members; few are read with their links before they could be drawn."""
        span = await self.span()
        if span.last_ns == 0:
            return ()
        moment = span.last_ns if self._at is None else at_ns(self._at, span.last_ns)
        if not self._for_screen or span.first_ns > moment:
            return ()
        found = await self._read(lambda: list_members(self._reader, min(moment, span.last_ns)))
        return found if len(found) >= MANY and any(member.state not in GONE for member in found) else ()

    async def frames(self) -> AsyncIterator[Swarm]:
        """Return the state at the requested moment, else at the last one with machines to plan on."""
        span = await self.span()
        if span.last_ns == 0:
            raise SourceError(f"{self.title} holds no sample yet; let a probe join and measure first", 2)
        moment = span.last_ns if self._at is None else at_ns(self._at, span.last_ns)
        if self._for_screen and span.first_ns <= moment:
            members = await self._read(lambda: self._members_at(min(moment, span.last_ns)))
            if len(members) >= MANY and _somebody_there(members):
                yield members
        if self._at is None:
            async for swarm in self._at_once_and_complete(await self._last_with_members(span.last_ns)):
                yield swarm
            return
        if not span.first_ns <= moment:
            raise SourceError(
                f"{self.title} begins at {quantities.moment(span.first_ns)}; --at {safe(str(self._at))} is before that",
                2,
            )
        async for swarm in self._at_once_and_complete(await self._stored_at(min(moment, span.last_ns))):
            yield swarm

    def _members_at(self, at_ns: int) -> Swarm:
        return members_at(self._reader, at_ns, source=self.title, compact=True)

    async def _at_once_and_complete(self, stored: Swarm) -> AsyncIterator[Swarm]:
        """With the changes that were found; for a screen, first without."""
        if self._for_screen:
            yield stored
            await asyncio.wait((self._find(),))
        complete = await self._with_changes(stored)
        if not self._for_screen or complete is not stored:
            yield complete

    async def _last_with_members(self, last_ns: int) -> Swarm:
        """The end of the recording; where everybody had gone by then, the moment before they began to go."""
        end = await self._stored_at(last_ns)
        if _has_members(end):
            return end
        for moment in (await self._read(lambda: before_departures(self._reader, last_ns)))[:DEPARTURES_TRIED]:
            swarm = await self._stored_at(moment)
            if _has_members(swarm):
                return swarm
        return end

    async def span(self) -> Span:
        """Return what the recording covered when it was first asked for; finding that out reads its last minute."""
        if self._span is None:
            found = await self._read(self._reader.span)
            self._span = Span(found.first_ns, found.last_ns, found.gaps)
        return self._span

    async def swarm_at(self, at_ns: int) -> Swarm:
        return await self._with_changes(await self._stored_at(at_ns))

    async def count_at(self, at_ns: int) -> int:
        return await self._read(lambda: len(members_until(self._reader, at_ns)))

    async def _stored_at(self, at_ns: int) -> Swarm:
        from swarm_storage.history.replay import swarm_at  # numpy, which the first paint does without

        def stored() -> Swarm:
            swarm = swarm_at(self._reader, at_ns, source=self.title, compact=self._for_screen)
            if self._for_screen and len(swarm) >= MANY:
                hand_back()  # the rows that it was made of: 25 MB of 1,000 nodes
            return dataclasses.replace(swarm, measured_for=measured_for(self._reader, at_ns))

        return await self._read(stored)

    async def _with_changes(self, swarm: Swarm) -> Swarm:
        found = [event for event in await self._found_changes() if event.at_ns <= swarm.at_ns]
        if found:
            swarm = dataclasses.replace(
                swarm, events=tuple(sorted((*swarm.events, *found), key=lambda event: event.at_ns))
            )
        return swarm

    async def _found_changes(self) -> tuple[Event, ...]:
        """Empty where the recording has its own, and until they are found."""
        finding = self._find()
        await asyncio.wait((finding,), timeout=WAIT_S)
        return finding.result() if finding.done() else ()

    def _find(self) -> asyncio.Task[tuple[Event, ...]]:
        if self._finding is None:
            self._finding = asyncio.create_task(self._read(self._find_changes))
        return self._finding

    def _find_changes(self) -> tuple[Event, ...]:
        if recorded_changes.are_stored(self._reader):
            return ()
        if self._for_screen and recorded_changes.take_long(self._reader):
            return self._found_elsewhere()
        return recorded_changes.find(self._reader, self._closing.is_set)

    def _found_elsewhere(self) -> tuple[Event, ...]:
        """The same in a worker process, so that keys need not wait; none if it is killed."""
        from swarmtop.worker_process.process import WorkerProcess  # brings numpy

        self._worker = worker = WorkerProcess()
        try:
            if self._closing.is_set():
                return ()
            return worker.answer(recorded_changes.find_in, self._file)
        except WorkerEnded:
            return ()
        finally:
            worker.close()

    async def history(
        self, metric: str, node_id: str, peer_id: str | None, since_ns: int, until_ns: int, points: int
    ) -> History:
        found = await self._read(lambda: self._reader.history(metric, node_id, peer_id, since_ns, until_ns, points))
        return History(found.at_ns, found.values, found.rolled_until_ns)

    async def export(self, kind: str, since_ns: int, until_ns: int) -> AsyncIterator[str]:
        pieces = await self._read(lambda: chunks(self._reader, kind, since_ns, until_ns))
        while piece := await self._read(lambda: next(pieces, None)):
            yield piece[0]

    async def focus(
        self, model: str, layer: LayerShape, dtype: str, hop_bytes: int, vocab: int = 0, *, chosen: bool = True
    ) -> None:
        """What was measured is measured."""

    async def close(self) -> None:
        self._closing.set()
        if self._worker is not None:
            self._worker.close()
        if self._finding is not None:
            await asyncio.wait((self._finding,))
        await asyncio.to_thread(self._store.close)

    async def _read(self, question: Callable[[], _T]) -> _T:
        try:
            return await asyncio.to_thread(question)
        except StoreError as error:
            raise SourceError(safe(str(error)), 2) from error


def _somebody_there(swarm: Swarm) -> bool:
    """Return whether somebody was connected, so that the recording is opened at this moment and no earlier one."""
    return any(int(state) not in GONE for state in swarm.nodes["state"])


def _has_members(swarm: Swarm) -> bool:
    """Whether a machine is there that something was measured of, so that there is a plan to show."""
    return any(
        facts.layers and int(state) not in GONE for facts, state in zip(swarm.facts, swarm.nodes["state"], strict=True)
    )
