"""Define the interface of a data source: a running collector, a recorded database, or a file written by hand.

Screens and commands know only this interface, so that every one of them works live, paused and in replay.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeGuard, cast

if TYPE_CHECKING:  # numpy and msgspec: `--help` needs SourceError from here, and neither of them
    from swarm_protocol.layer_shape import LayerShape
    from swarm_protocol.messages.running import Running
    from swarm_protocol.snapshot.swarm import Member, Swarm

Mode = Literal["live", "replay", "file"]


class SourceError(Exception):
    """One line for people; `exit_code`: 2 unusable, 3 unreachable."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class History(NamedTuple):
    """Equal-width buckets; None is a gap (nothing measured then), never 0."""

    at_ns: tuple[int, ...]
    values: tuple[float | None, ...]
    rolled_until_ns: int = 0  # earlier values are medians of rollups, within 1 %; 0: all come from samples


class Span(NamedTuple):
    """What a recording covers."""

    first_ns: int
    last_ns: int
    gaps: tuple[tuple[int, int], ...] = ()  # (from, to) without any sample


class Source(Protocol):
    title: str  # "10.0.0.5:9470", "swarm-0921.db"
    mode: Mode

    def frames(self) -> AsyncIterator[Swarm]:
        """Yield each new state as it comes (live), or the only one (file). Reconnects by itself and reports it as an
        Event of kind "note". Raises SourceError where continuing is pointless."""
        ...

    async def history(
        self, metric: str, node_id: str, peer_id: str | None, since_ns: int, until_ns: int, points: int
    ) -> History:
        """Return a history; `metric` is a key of swarm_protocol.snapshot.metrics.METRICS. Empty for a file."""
        ...

    def export(self, kind: str, since_ns: int, until_ns: int) -> AsyncIterator[str]:
        """Yield CSV text in pieces, header first."""
        ...

    async def focus(
        self, model: str, layer: LayerShape, dtype: str, hop_bytes: int, vocab: int = 0, *, chosen: bool = True
    ) -> None:
        """Have the swarm measure hops and layers of this model from now on. Does nothing in a replay."""
        ...

    async def close(self) -> None: ...


class ReportableSource(Source, Protocol):
    """A source whose collector accepts reports, and may fall silent."""

    silent_since_ns: int | None  # wall clock of the last message while the collector is silent; None: it is not

    async def tell_running(self, running: Running) -> None:
        """Report what the swarm runs from now on. Raises SourceError if that is refused."""
        ...


def accepts_reports(source: Source) -> TypeGuard[ReportableSource]:
    return hasattr(source, "tell_running")


class MemberListSource(Source, Protocol):
    """A source that tells at once who its members are."""

    async def members(self) -> tuple[Member, ...]:
        """Return the members of the first frame, for the first paint: nothing that needs numpy. Empty: the first frame
        tells. Raises SourceError."""
        ...


def lists_members(source: Source) -> TypeGuard[MemberListSource]:
    return hasattr(source, "members")


class Recording(Source, Protocol):
    """A source with a past that can be replayed."""

    async def span(self) -> Span: ...

    async def swarm_at(self, at_ns: int) -> Swarm:
        """Return what the dashboard showed at that moment."""
        ...

    async def count_at(self, at_ns: int) -> int:
        """Return how many nodes `swarm_at` shows, without reading their figures."""
        ...


def is_recording(source: Source) -> TypeGuard[Recording]:
    return hasattr(source, "span") and hasattr(source, "swarm_at")


async def first_frame(source: Source) -> Swarm:
    """Return the first state of a source; live, wait for it. Raises SourceError."""
    frames = cast("AsyncGenerator[Swarm, None]", source.frames())
    try:
        return await anext(frames)
    except StopAsyncIteration:
        raise SourceError(f"{source.title} has no state to show", 2) from None
    finally:
        await frames.aclose()
