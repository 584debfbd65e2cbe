"""Encode frames for viewers, a keyframe and then diffs, once for all viewers.

Viewers of one rate share a Feed: its sequence, its last Swarm, its encoded frames. No queue grows for a slow viewer:
its frames are dropped and it gets a keyframe when it reads again. Nothing is encoded while nobody watches. The socket
belongs to `viewer_session`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.viewer_messages import Diff, Keyframe
from swarm_protocol.snapshot.frames import encode_diff, encode_keyframe, same_members
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S

RATES_HZ: Final = (10.0, 4.0, 2.0, 1.0, 0.5, 0.1)  # few, so that viewers share what is encoded
BEAT_NS: Final = 2 * NS_PER_S  # a frame at least this often, because ages change although nothing new is measured
MAX_QUEUED_FRAMES: Final = 8
MAX_QUEUED_BYTES: Final = 4 << 20
IN_THREAD_FROM_NODES: Final = 100  # below, encoding takes less than the switch to a thread


def rate_class(asked_hz: float) -> float:
    """Return the fastest shared rate that is not faster than requested."""
    return next((rate for rate in RATES_HZ if rate <= asked_hz), RATES_HZ[-1])


@dataclass(slots=True, eq=False)
class Outbox:
    """The frames that wait for one viewer. Bounded; `wake` is set when there is something to send."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    skipped: int = 0
    _frames: deque[bytes] = field(default_factory=deque)
    _bytes: int = 0
    _behind: bool = True  # a viewer begins with a keyframe

    def offer(self, frame: bytes) -> None:
        if self._behind:
            self.skipped += 1
        elif len(self._frames) >= MAX_QUEUED_FRAMES or (self._frames and self._bytes + len(frame) > MAX_QUEUED_BYTES):
            self.skipped += len(self._frames) + 1
            self.start_over()
        else:
            self._frames.append(frame)
            self._bytes += len(frame)
        self.wake.set()

    def start_over(self) -> None:
        """Send a keyframe next."""
        self._frames.clear()
        self._bytes = 0
        self._behind = True
        self.wake.set()

    def take(self) -> bytes | None:
        """Return the next frame; None if there is none, or a keyframe is due (see `take_keyframe`)."""
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self._bytes -= len(frame)
        return frame

    def take_keyframe(self) -> bool:
        """Return whether a keyframe is due. From here on diffs are kept again: they follow the feed's present frame."""
        due, self._behind = self._behind, False
        return due


class Feed:
    """One rate's sequence of frames."""

    def __init__(self, rate_hz: float, swarm: Swarm, version: int) -> None:
        self.rate_hz = rate_hz
        self.outboxes: set[Outbox] = set()
        self.seq = 1
        self.swarm = swarm
        self.version = version
        self._keyframe: tuple[int, asyncio.Future[bytes]] | None = None

    async def keyframe(self) -> bytes:
        """Return the present frame as a keyframe; concurrent requests for the same frame share one encoding."""
        if self._keyframe is None or self._keyframe[0] != self.seq:
            seq, swarm = self.seq, self.swarm
            task = asyncio.ensure_future(_maybe_in_thread(swarm, lambda: _keyframe(seq, swarm)))
            self._keyframe = (seq, task)
        return await asyncio.shield(self._keyframe[1])

    async def step(self, swarm: Swarm, version: int) -> None:
        """Send the next frame to every viewer of this feed."""
        previous, seq = self.swarm, self.seq + 1
        frame: bytes | None = None
        if same_members(previous, swarm):
            frame = await _maybe_in_thread(
                swarm, lambda: encode(Diff(seq=seq, at_ns=swarm.at_ns, body=encode_diff(previous, swarm)))
            )
        self.seq, self.swarm, self.version = seq, swarm, version
        for outbox in self.outboxes:
            if frame is None:
                outbox.start_over()
            else:
                outbox.offer(frame)


class Hub:
    """All feeds. `snapshot` returns the present Swarm; call `changed()` when it has changed."""

    def __init__(self, snapshot: Callable[[], Swarm]) -> None:
        self._snapshot = snapshot
        self._feeds: dict[float, Feed] = {}
        self._version = 0
        self._somebody = asyncio.Event()

    def changed(self) -> None:
        self._version += 1

    @property
    def viewers(self) -> int:
        return sum(len(feed.outboxes) for feed in self._feeds.values())

    @property
    def feeds(self) -> Iterable[Feed]:
        return tuple(self._feeds.values())

    def join(self, outbox: Outbox, rate_hz: float) -> Feed:
        rate = rate_class(rate_hz)
        feed = self._feeds.get(rate)
        if feed is None:
            feed = self._feeds[rate] = Feed(rate, self._snapshot(), self._version)
        feed.outboxes.add(outbox)
        self._somebody.set()
        return feed

    def leave(self, outbox: Outbox, feed: Feed) -> None:
        feed.outboxes.discard(outbox)
        if not feed.outboxes and self._feeds.get(feed.rate_hz) is feed:
            del self._feeds[feed.rate_hz]
        if not self._feeds:
            self._somebody.clear()

    async def step(self, due: Callable[[Feed], bool]) -> None:
        """Send one frame on each feed that is due and has changed, all from one snapshot."""
        version = self._version
        feeds = [feed for feed in self._feeds.values() if due(feed)]
        if not feeds:
            return
        swarm = self._snapshot()
        for feed in feeds:
            if feed.version != version or swarm.at_ns - feed.swarm.at_ns >= BEAT_NS or swarm.at_ns < feed.swarm.at_ns:
                await feed.step(swarm, version)

    async def run(self) -> None:
        """Step each feed at its rate, until cancelled."""
        loop = asyncio.get_running_loop()
        next_at: dict[Feed, float] = {}
        while True:
            await self._somebody.wait()
            now = loop.time()
            next_at = {feed: next_at.get(feed, now + 1 / feed.rate_hz) for feed in self._feeds.values()}
            ripe = {feed for feed, at in next_at.items() if at <= now}
            await self.step(ripe.__contains__)
            for feed in ripe:
                next_at[feed] = max(next_at[feed] + 1 / feed.rate_hz, loop.time())
            soonest = min(next_at.values(), default=now)
            # never longer than the fastest rate, so that a new viewer does not wait
            await asyncio.sleep(max(0.005, min(soonest - loop.time(), 1 / RATES_HZ[0])))


def _keyframe(seq: int, swarm: Swarm) -> bytes:
    return encode(Keyframe(seq=seq, at_ns=swarm.at_ns, body=encode_keyframe(swarm)))


async def _maybe_in_thread(swarm: Swarm, make: Callable[[], bytes]) -> bytes:
    return await asyncio.to_thread(make) if len(swarm) >= IN_THREAD_FROM_NODES else make()
