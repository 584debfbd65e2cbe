"""Validate a batch before it is stored.

Types and ranges were checked at decoding. Checked here: which node a sample is about, and its time by the
collector's clock. Pure.

A sender says what its clock shows (hello, heartbeats). If the clock is off, all its times are moved by the difference,
so that rows of a clock a year behind are not pruned at once and those of one ahead do not stretch a recording. Times
that are still implausible (spooled before the clock was set) become the time of arrival, with distances kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from typing import Final

import msgspec

from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import (
    CHANGE_KINDS,
    ComputeSample,
    EventSample,
    HopSample,
    LinkSample,
    Sample,
    UplinkSample,
)
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S

CLOCK_SLACK_NS: Final = 5 * NS_PER_S  # clocks kept by NTP differ by far less, and a message takes less
CLOCK_LATE_NS: Final = 60 * NS_PER_S  # no message is in flight for this long: the clock is behind
AHEAD_NS: Final = 120 * NS_PER_S  # of a sample: a probe dates some windows by their planned end
BEHIND_NS: Final = 30 * 86_400 * NS_PER_S  # a spool may wait for weeks; a clock that is a year off does not pass


@dataclass(frozen=True, slots=True)
class Checked:
    samples: tuple[Sample, ...]
    strangers: int  # samples left out: about a node that is not a member, or about the sender itself
    clock_off_ns: int  # 0, or by how much its times are implausible, moved or not


_OF_PEERS: Final = frozenset((LinkSample, HopSample, UplinkSample))
_CHANGED: Final = frozenset((EventSample, ComputeSample))  # kinds that are not stored as they came


class SenderClock:
    """How far one session's clock is off, as far as messages with their own time show it."""

    __slots__ = ("_first", "ahead_ns")

    def __init__(self) -> None:
        self.ahead_ns = 0  # subtracted from its times
        self._first = True

    def collector_set(self, step_ns: int) -> None:
        """The collector's own clock was set ahead by this much: relative to it, the sender's went back."""
        self.ahead_ns -= step_ns
        if abs(self.ahead_ns) <= CLOCK_SLACK_NS:
            self.ahead_ns = 0

    def observe(self, at_ns: int, received_ns: int) -> bool:
        """The sender's clock read `at_ns` in a message received at `received_ns`. Return whether it was set."""
        ahead_ns = at_ns - received_ns
        more_ns = ahead_ns - self.ahead_ns
        behind_ns = CLOCK_SLACK_NS if self._first else CLOCK_LATE_NS
        self._first = False
        if -behind_ns <= more_ns <= CLOCK_SLACK_NS:
            return False
        before = self.ahead_ns
        self.ahead_ns = ahead_ns if abs(ahead_ns) > CLOCK_SLACK_NS else 0
        return self.ahead_ns != before


def check(samples: tuple[Sample, ...], node_id: str, known: Callable[[str], bool], received_ns: int, ahead_ns: int = 0,
    verified: bool = False,
) -> Checked:  # fmt: skip
    """Return the samples to keep, with times by the collector's clock. `ahead_ns`: how far the sender's is ahead;
    `verified`: whether the sender has passed a challenge, which it cannot claim itself."""
    kept, strangers = _admissible(samples, node_id, known, verified)
    if ahead_ns:
        kept = tuple([_moved(sample, ahead_ns, received_ns) for sample in kept])
    times = [sample.at_ns for sample in kept]
    if not times or (_credible(min(times), received_ns) and _credible(max(times), received_ns)):
        return Checked(kept, strangers, 0)
    latest = max(at_ns for at_ns in times if not _credible(at_ns, received_ns))
    moved = tuple(
        sample
        if _credible(sample.at_ns, received_ns)
        else msgspec.structs.replace(sample, at_ns=max(received_ns - BEHIND_NS, received_ns - (latest - sample.at_ns)))
        for sample in kept
    )
    return Checked(moved, strangers, latest - received_ns)


def are_admissible(links: LinkColumns, node_id: str, members: Set[str], received_ns: int) -> bool:
    """Return whether `check` would keep all of these windows as they are, from a sender whose clock is right."""
    peers, times = set(links.peer), links.at_ns
    return (
        _credible(min(times), received_ns)
        and _credible(max(times), received_ns)
        and node_id not in peers
        and members >= peers
    )


def are_plain(samples: Iterable[Sample], node_id: str, members: Set[str], received_ns: int) -> bool:
    """Return whether `check` would leave none of these out and change no time, and whether they may be looked at apart
    from the windows that came with them: what a transfer does to a window depends on which comes first."""
    return all(
        _credible(sample.at_ns, received_ns)
        and type(sample) is not UplinkSample
        and (not isinstance(sample, HopSample) or (sample.peer != node_id and sample.peer in members))
        for sample in samples
    )


def _admissible(
    samples: tuple[Sample, ...], node_id: str, known: Callable[[str], bool], verified: bool
) -> tuple[tuple[Sample, ...], int]:
    """Return (samples without those of strangers and without claims that are not the sender's to make, how many were
    about strangers). Nearly all batches pass as they are, and are looked at once as a whole."""
    kinds = set(map(type, samples))
    strangers: set[str] = set()
    if not kinds.isdisjoint(_OF_PEERS):
        peers = {sample.peer for sample in samples if type(sample) in _OF_PEERS}  # type: ignore[union-attr]
        strangers = {peer for peer in peers if peer == node_id or not known(peer)}
    if not strangers and kinds.isdisjoint(_CHANGED):
        return samples, 0
    kept: list[Sample] = []
    for sample in samples:
        if isinstance(sample, EventSample):
            # only the collector reports changes of figures
            said = "note" if sample.kind in CHANGE_KINDS else sample.kind
            kept.append(msgspec.structs.replace(sample, kind=said, detail=safe(sample.detail, limit=300)))
        elif isinstance(sample, ComputeSample):
            kept.append(sample if sample.verified is verified else msgspec.structs.replace(sample, verified=verified))
        elif type(sample) not in _OF_PEERS or sample.peer not in strangers:  # type: ignore[union-attr]
            kept.append(sample)
    return tuple(kept), len(samples) - len(kept)


def _moved(sample: Sample, ahead_ns: int, received_ns: int) -> Sample:
    """Move a time, unless it was spooled before the clock went wrong and is plausible already."""
    at_ns = max(0, sample.at_ns - ahead_ns)
    if _credible(sample.at_ns, received_ns) and not _credible(at_ns, received_ns):
        return sample
    return msgspec.structs.replace(sample, at_ns=at_ns)


def _credible(at_ns: int, received_ns: int) -> bool:
    return received_ns - BEHIND_NS <= at_ns <= received_ns + AHEAD_NS


def off_by(ahead_ns: int) -> str:
    """Return text such as `12 s ahead` or `365.0 days behind`."""
    seconds = abs(ahead_ns) / NS_PER_S
    size = f"{seconds / 86_400:.1f} days" if seconds >= 86_400 else f"{seconds:.0f} s"
    return f"{size} {'ahead' if ahead_ns > 0 else 'behind'}"
