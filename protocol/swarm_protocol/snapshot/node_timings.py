"""The timings of one node: its layers, on each of its cards, and its memory and matrix rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from swarm_protocol.messages.probe_messages import HostFacts
from swarm_protocol.messages.samples import ComputeSample, RooflineSample
from swarm_protocol.snapshot.node_figures import card_shares, over_cards
from swarm_protocol.snapshot.swarm import LayerTime

MAX_LAYERS: Final = 512  # kept of one node: bounds what a member that invents models can make others hold
Key = tuple[str, str, str, int, int]


@dataclass(slots=True)
class NodeTimings:
    layers: dict[Key, LayerTime] = field(default_factory=dict)
    by_card: dict[Key, dict[str, LayerTime]] = field(default_factory=dict)  # several cards
    rooflines: dict[tuple[str, str], RooflineSample] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.layers or self.rooflines)

    def known_ns(self, sample: ComputeSample, facts: HostFacts | None) -> int:
        """When the figure that `sample` would replace was measured; 0: there is none."""
        key = _key(sample)
        of_cards = self.by_card.get(key) if facts is not None and len(facts.gpus) > 1 else None
        known = of_cards.get(sample.device) if of_cards else self.layers.get(key)
        return known.at_ns if known is not None else 0

    def add(self, sample: ComputeSample, facts: HostFacts | None) -> None:
        key = _key(sample)
        cards = self.by_card.setdefault(key, {}) if facts is not None and len(facts.gpus) > 1 else {}
        self.layers.pop(key, None)  # put back at the end: what is dropped is what was measured longest ago
        cards[sample.device] = self.layers[key] = LayerTime(
            model=sample.model,
            phase=sample.phase,
            batch=sample.batch,
            context=sample.context,
            ms=sample.ms_per_layer,
            ms_p95=sample.ms_p95,
            dtype=sample.dtype,
            n=sample.n,
            at_ns=sample.at_ns,
            verified=sample.verified,
            marks=sample.marks,
        )
        if shares := card_shares(facts, cards):
            self.layers[key] = over_cards([(share, cards[device]) for device, share in shares.items()])
        if len(self.layers) > MAX_LAYERS:
            oldest = next(iter(self.layers))
            del self.layers[oldest]
            self.by_card.pop(oldest, None)

    def known_roofline_ns(self, sample: RooflineSample) -> int:
        known = self.rooflines.get((sample.device, sample.dtype))
        return known.at_ns if known is not None else 0

    def add_roofline(self, sample: RooflineSample, facts: HostFacts | None) -> dict[str, float] | None:
        """The node's rates with it, in the best number format, which is what data sheets state and layers run on: of
        several cards of the machine the rate of the mean of their times, by memory, else of the best device. None:
        the node has too many."""
        key = (sample.device, sample.dtype)
        if key not in self.rooflines and len(self.rooflines) >= MAX_LAYERS:
            return None
        self.rooflines[key] = sample
        shares = card_shares(facts, (device for device, _ in self.rooflines))
        rates = {}
        for column in ("mem_gbps", "tflops"):
            best: dict[str, float] = {}
            for (device, _), each in self.rooflines.items():
                best[device] = max(getattr(each, column), best.get(device, 0.0))
            # cards work one after another: the rate of the mean of their times
            rates[column] = (
                1 / sum(share / best[card] for card, share in shares.items()) if shares else max(best.values())
            )
        return rates


def _key(sample: ComputeSample) -> Key:
    return sample.model, sample.dtype, sample.phase, sample.batch, sample.context
