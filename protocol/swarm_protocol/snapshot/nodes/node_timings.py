"""Keep the timings of one node: its layers, on each of its GPUs, and its memory and matrix rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from swarm_protocol.messages.probe_messages import HostFacts
from swarm_protocol.messages.samples import ComputeSample, RooflineSample
from swarm_protocol.snapshot.nodes.node_figures import card_shares, over_cards
from swarm_protocol.snapshot.swarm import LayerTime
from swarm_protocol.units import NS_PER_S

MAX_LAYERS: Final = 512  # per node: a member that invents models must not fill the memory of others
UNDISTURBED_HOLD_NS: Final = 3_600 * NS_PER_S  # how long an undisturbed figure is preferred to a disturbed one
Key = tuple[str, str, str, int, int, int]


@dataclass(slots=True)
class NodeTimings:
    layers: dict[Key, LayerTime] = field(default_factory=dict)
    by_card: dict[Key, dict[str, LayerTime]] = field(default_factory=dict)  # several GPUs
    rooflines: dict[tuple[str, str], RooflineSample] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.layers or self.rooflines)

    def known_ns(self, sample: ComputeSample, facts: HostFacts | None) -> int:
        """Return when the figure that `sample` would replace was measured; 0: there is none."""
        key = _key(sample)
        of_cards = self.by_card.get(key) if facts is not None and len(facts.gpus) > 1 else None
        known = of_cards.get(sample.device) if of_cards else self.layers.get(key)
        return known.at_ns if known is not None else 0

    def disturbed(self, sample: ComputeSample) -> bool:
        """Return whether other programs used the machine during this sample, but not during a recent one."""
        known = self.layers.get(_key(sample))
        if known is None or "contended" not in sample.marks or "contended" in known.marks:
            return False
        return 0 <= sample.at_ns - known.at_ns < UNDISTURBED_HOLD_NS

    def visit_ms(self, sample: ComputeSample) -> tuple[float, float | None]:
        """Return (time of a visit, extra time of each layer compared with a loop), from the stage sizes timed with this
        one. None: only one size was timed, so that all of the time counts for the visit."""
        same = [time for key, time in self.layers.items() if key[:5] == _key(sample)[:5] and time.stage_layers]
        small = min(same, key=lambda time: time.stage_layers, default=None)
        large = max(same, key=lambda time: time.stage_layers, default=None)
        if small is None or large is None or small.stage_layers == large.stage_layers:
            return sample.ms_per_layer, None
        each = max(0.0, (large.ms - small.ms) / (large.stage_layers - small.stage_layers))
        return max(0.0, small.ms - small.stage_layers * each), each

    def add(self, sample: ComputeSample, facts: HostFacts | None) -> None:
        key = _key(sample)
        cards = self.by_card.setdefault(key, {}) if facts is not None and len(facts.gpus) > 1 else {}
        self.layers.pop(key, None)  # put back at the end: the oldest is dropped first
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
            stage_layers=sample.stage_layers or 0,
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
        """Add rates; return the node's rates, in the best number format, which data sheets state and layers use: of
        several GPUs of the machine the rate of the mean of their times, by memory, else of the best device. None: the
        node has too many."""
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
            # GPUs work one after another: the rate of the mean of their times
            rates[column] = (
                1 / sum(share / best[card] for card, share in shares.items()) if shares else max(best.values())
            )
        return rates


def _key(sample: ComputeSample) -> Key:
    return sample.model, sample.dtype, sample.phase, sample.batch, sample.context, sample.stage_layers or 0
