"""What a builder keeps of one node in addition to its row in the node columns."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarm_protocol.messages.probe_messages import HostFacts
from swarm_protocol.messages.samples import HostSample
from swarm_protocol.snapshot.node_figures import shown_facts
from swarm_protocol.snapshot.node_timings import NodeTimings
from swarm_protocol.snapshot.swarm import Card, NodeFacts, Way


@dataclass(slots=True)
class GpuReading:
    """The GPUs of one host reading; one sample each, all with the same time."""

    at_ns: int
    samples: list[HostSample]


@dataclass(slots=True)
class LiveNode:
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

    def described(self) -> NodeFacts:
        if self.shown is None:
            layers = tuple(self.timings.layers.values())
            self.shown = shown_facts(
                self.node_id, self.name, self.host, self.facts, self.device, self.note, layers,
                timed=bool(self.timings), cards=self.cards,
                ways=tuple(sorted(self.ways.values(), key=lambda way: way.peer)),
            )  # fmt: skip
        return self.shown

    def set_device(self, device: str, cards: tuple[Card, ...] | None = None) -> None:
        """Take the device as a sample names it. `cards` None: the sample does not list them."""
        cards = self.cards if cards is None else cards
        if (device and device != self.device) or cards != self.cards:
            self.device, self.cards, self.shown = device or self.device, cards, None
