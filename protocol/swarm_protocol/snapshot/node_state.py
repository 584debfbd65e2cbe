"""Keep the record of a node, and decide when one that is silent, or sends no new figures, is stale or lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy.typing as npt

from swarm_protocol.messages.probe_messages import HostFacts
from swarm_protocol.messages.samples import HostSample
from swarm_protocol.snapshot.node_timings import NodeTimings
from swarm_protocol.snapshot.swarm import Card, NodeFacts, State, Way
from swarm_protocol.units import NS_PER_S

STALE_AFTER_NS: Final = 12 * NS_PER_S  # two heartbeats missed, and a slow link
LOST_AFTER_NS: Final = 20 * NS_PER_S  # as the collector does
NUMBERS_OLD_NS: Final = 150 * NS_PER_S  # an idle swarm still sends host figures every minute: two of them missed


@dataclass(slots=True)
class GpuReading:
    """The GPUs of one host reading; one sample each, all with the same time."""

    at_ns: int
    samples: list[HostSample]


@dataclass(slots=True)
class NodeRecord:
    """What the builder knows of a node beside its columns."""

    node_id: str
    name: str
    facts: HostFacts | None
    host: str
    fresh_ns: int  # collector's clock at the last new sample
    timings: NodeTimings = field(default_factory=NodeTimings)
    reading: GpuReading | None = None  # of which not all GPUs have come yet
    device: str = ""  # as samples name it, where facts are missing
    cards: tuple[Card, ...] = ()
    note: str = ""
    note_at_ns: int = 0
    ways: dict[str, Way] = field(default_factory=dict)  # by peer
    shown: NodeFacts | None = None  # None: changed since the last snapshot


def aged(
    state: npt.NDArray[Any],
    seen_ns: npt.NDArray[Any],
    fresh_ns: npt.NDArray[Any],
    now_ns: int,
    stale_after_ns: int,
    lost_after_ns: int,
) -> npt.NDArray[Any]:
    """Return OK and STALE by when nodes were last heard, and last sent something new. Written so that no difference
    overflows, whatever clocks say."""
    living = (state == State.OK) | (state == State.STALE)
    silent = seen_ns <= now_ns - stale_after_ns
    old = fresh_ns <= now_ns - max(NUMBERS_OLD_NS, stale_after_ns)
    result = state.copy()
    result[living & (silent | old)] = State.STALE
    result[living & (seen_ns <= now_ns - lost_after_ns)] = State.LOST
    result[living & (seen_ns == 0)] = State.UNKNOWN
    return result
