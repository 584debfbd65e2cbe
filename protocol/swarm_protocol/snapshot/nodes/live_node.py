"""Hold what a builder keeps of one node in addition to its row in the node columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress

from swarm_protocol.messages.probe_messages import HostFacts
from swarm_protocol.messages.samples import HostSample
from swarm_protocol.snapshot.links.window_columns import Windows
from swarm_protocol.snapshot.nodes.node_figures import shown_facts
from swarm_protocol.snapshot.nodes.node_timings import NodeTimings
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

    def measured(self, windows: Windows, shown: Sequence[bool]) -> None:
        """Note windows of this node, and which of them the picture shows."""
        if True not in shown:
            return
        self.fresh_ns = max(self.fresh_ns, windows.seen_ns)
        if self.ways or windows.addressed:
            self.note_ways(compress(windows.ways(), shown))

    def note_ways(self, ways: Iterable[tuple[str, str | None, str | None]]) -> None:
        """Record by which addresses packets to peers travel: (peer, its address, interface). Changes are rare."""
        for peer, address, interface in ways:
            known = self.ways.get(peer)
            if address is None and interface is None:  # nothing answers, or the addresses are not known
                if known is not None:
                    del self.ways[peer]
                    self.shown = None
            elif known is None or known.address != (address or "") or known.interface != (interface or ""):
                self.ways[peer], self.shown = Way(peer, address or "", interface or ""), None

    def set_device(self, device: str, cards: tuple[Card, ...] | None = None) -> None:
        """Take the device as a sample names it. `cards` None: the sample does not list them."""
        cards = self.cards if cards is None else cards
        if (device and device != self.device) or cards != self.cards:
            self.device, self.cards, self.shown = device or self.device, cards, None
