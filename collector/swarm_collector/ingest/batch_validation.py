"""Validate a batch before it is stored, and decide in which order batches may be taken.

Types and ranges were checked at decoding. Here: whom a sample speaks about, when it was measured by the collector's
clock, and that no batch overtakes one that was refused. Pure.

A sender says what its clock shows (hello, heartbeats). Where that is off, all its times are moved by the difference,
so that rows of a clock a year behind are not pruned at once and those of one ahead do not stretch a recording. What
is beyond belief all the same (spooled before the clock was set) takes the time of its arrival, distances kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from swarm_protocol.messages.probe_messages import Batch
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

CLOCK_SLACK_NS: Final = 5 * NS_PER_S  # clocks kept by NTP differ by far less; so does what a message takes
CLOCK_LATE_NS: Final = 60 * NS_PER_S  # no message is on its way for so long: a clock that seems behind by more is
AHEAD_NS: Final = 120 * NS_PER_S  # of a sample, after all: a probe dates some windows by their planned end
BEHIND_NS: Final = 30 * 86_400 * NS_PER_S  # a spool may wait for weeks; a clock that is a year off does not pass
MAX_REFUSED: Final = 1024


@dataclass(frozen=True, slots=True)
class Checked:
    samples: tuple[Sample, ...]
    strangers: int  # samples left out: they speak of a node that is no member, or of the sender itself
    clock_off_ns: int  # 0, or by how much its times are beyond belief, moved or not


_OF_PEERS: Final = frozenset((LinkSample, HopSample, UplinkSample))


class SenderClock:
    """How far one session's clock is off, as far as messages that take their time can tell.

    Delay makes a clock look behind, never ahead: what it says ahead of what is known counts at once, what it says
    behind only where no delay explains it.
    """

    def __init__(self) -> None:
        self.ahead_ns = 0  # what is taken off its times
        self._first = True

    def collector_set(self, step_ns: int) -> None:
        """The collector's own clock was set ahead by this: against it, the sender's went back."""
        self.ahead_ns -= step_ns
        if abs(self.ahead_ns) <= CLOCK_SLACK_NS:
            self.ahead_ns = 0

    def observe(self, at_ns: int, received_ns: int) -> bool:
        """The sender's clock read `at_ns` in a message that came at `received_ns`. True: it was set."""
        ahead_ns = at_ns - received_ns
        more_ns = ahead_ns - self.ahead_ns
        behind_ns = CLOCK_SLACK_NS if self._first else CLOCK_LATE_NS
        self._first = False
        if -behind_ns <= more_ns <= CLOCK_SLACK_NS:
            return False
        before = self.ahead_ns
        self.ahead_ns = ahead_ns if abs(ahead_ns) > CLOCK_SLACK_NS else 0
        return self.ahead_ns != before


def check(batch: Batch, node_id: str, known: Callable[[str], bool], received_ns: int, ahead_ns: int = 0,
    verified: bool = False,
) -> Checked:  # fmt: skip
    """The samples to keep, their times by the collector's clock. `ahead_ns`: how far the sender's is ahead; `verified`:
    whether it has answered a challenge, which it cannot say itself."""
    kept: list[Sample] = []
    strangers = 0
    believed: set[str] = set()  # peers of this batch that are known: most samples speak of few
    for sample in batch.samples:
        kind = type(sample)
        if kind in _OF_PEERS:
            peer: str = sample.peer  # type: ignore[union-attr]
            if peer not in believed:
                if peer == node_id or not known(peer):
                    strangers += 1
                    continue
                believed.add(peer)
            kept.append(sample)
        elif isinstance(sample, EventSample):
            # whose figures changed is for the collector to say
            said = "note" if sample.kind in CHANGE_KINDS else sample.kind
            kept.append(msgspec.structs.replace(sample, kind=said, detail=safe(sample.detail, limit=300)))
        elif isinstance(sample, ComputeSample):
            kept.append(sample if sample.verified is verified else msgspec.structs.replace(sample, verified=verified))
        else:
            kept.append(sample)
    if ahead_ns:
        kept = [_moved(sample, ahead_ns, received_ns) for sample in kept]
    times = [sample.at_ns for sample in kept]
    if not times or (_credible(min(times), received_ns) and _credible(max(times), received_ns)):
        return Checked(tuple(kept), strangers, 0)
    latest = max(at_ns for at_ns in times if not _credible(at_ns, received_ns))
    moved = tuple(
        sample
        if _credible(sample.at_ns, received_ns)
        else msgspec.structs.replace(sample, at_ns=max(received_ns - BEHIND_NS, received_ns - (latest - sample.at_ns)))
        for sample in kept
    )
    return Checked(moved, strangers, latest - received_ns)


def _moved(sample: Sample, ahead_ns: int, received_ns: int) -> Sample:
    """One that was spooled before the clock went wrong has a good time already."""
    at_ns = max(0, sample.at_ns - ahead_ns)
    if _credible(sample.at_ns, received_ns) and not _credible(at_ns, received_ns):
        return sample
    return msgspec.structs.replace(sample, at_ns=at_ns)


def _credible(at_ns: int, received_ns: int) -> bool:
    return received_ns - BEHIND_NS <= at_ns <= received_ns + AHEAD_NS


def off_by(ahead_ns: int) -> str:
    """`12 s ahead`, `365.0 days behind`."""
    seconds = abs(ahead_ns) / NS_PER_S
    size = f"{seconds / 86_400:.1f} days" if seconds >= 86_400 else f"{seconds:.0f} s"
    return f"{size} {'ahead' if ahead_ns > 0 else 'behind'}"


class BatchOrder:
    """One session's batches. After one was refused, none that follows it may be taken before it comes again:
    its number would count as committed and the refused one be lost.

    A refused number that comes a second time, with nothing before it, means that the sender has gone back to the
    first it still has (its spool may have dropped earlier ones), so that one is taken.
    """

    def __init__(self) -> None:
        self._refused: set[int] = set()

    @property
    def refusing(self) -> bool:
        """A refused batch is waited for."""
        return bool(self._refused)

    def may_take(self, seq: int) -> bool:
        if not self._refused or seq <= min(self._refused) or seq in self._refused:
            self._refused.clear()
            return True
        self.refuse(seq)
        return False

    def refuse(self, seq: int) -> None:
        if len(self._refused) < MAX_REFUSED:
            self._refused.add(seq)
