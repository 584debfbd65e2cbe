"""Detect the changes in a recording made by a version without change detection, with the same detector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from swarm_collector.changes.detected_change import describe
from swarm_collector.changes.detector import ChangeDetector
from swarm_protocol.messages.samples import EventSample, Sample
from swarm_protocol.snapshot.swarm import Event
from swarm_protocol.units import NS_PER_S

STEP_NS: Final = NS_PER_S  # the interval at which the collector looks


def recorded_changes(samples: Iterable[tuple[str, Sample]], name_of: Callable[[str], str]) -> list[Event]:
    """Return the changes. `samples`: (node id, sample) ordered by time, events of nodes among them. The effect on a
    plan is left out: a recording does not say for which model."""
    detector = ChangeDetector()
    found: list[Event] = []
    next_ns = 0
    for node_id, sample in samples:
        if sample.at_ns >= next_ns:
            if next_ns:
                found += _events(detector, sample.at_ns if sample.at_ns < next_ns + STEP_NS else next_ns, name_of)
            next_ns = sample.at_ns + STEP_NS
        if isinstance(sample, EventSample):
            if sample.kind in ("left", "lost") and node_id:
                detector.away(node_id)
        else:
            detector.add(node_id, sample)
    found += _events(detector, next_ns, name_of)
    return found


def _events(detector: ChangeDetector, at_ns: int, name_of: Callable[[str], str]) -> list[Event]:
    return [
        Event(
            at_ns=found.at_ns,
            node=name_of(found.subject.node) if found.subject.node is not None else "",
            kind=found.kind,
            detail=describe(found, name_of),
        )
        for found in detector.advance(at_ns)
    ]
