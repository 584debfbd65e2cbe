"""Compute the gain of more upload, less distance or more memory at a node, in the time per token of one placement.

Each change is made to a copy of the measured swarm and priced by the same tables, so that a gain is the difference of
two medians; jitter and loss stay as they are. A measured hop is changed by what the formula says of the change. More
memory moves layers: the order of the nodes stays, the layers are split again. The gain of a new split without more
memory comes first, since it is free.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.cost.build import Costs, build_costs
from swarm_predict.cost.engines import engine_facts
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.chain import best_split
from swarm_predict.types import Placement, Prediction, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm
from swarm_protocol.units import BITS_PER_BYTE, BYTES_PER_GIB

MORE_UP_MBPS: Final = 10.0
LESS_RTT_MS: Final = 20.0
MORE_GIB: Final = 8.0
WORTH_MS: Final = 1e-6  # sums in another order differ by less
FEW_DRAWS: Final = 100  # of the same seed, so that differences are not of the draws

_RTT = ("rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms")
_HOP = ("hop_min_ms", "hop_p50_ms", "hop_p95_ms", "hop_p99_ms", "hop_first_ms")


@dataclass(frozen=True, slots=True)
class Gain:
    node: str | None  # None: the placement as a whole
    change: str  # "+10 Mbit/s up"
    gain_ms: float  # off the median time per token; 0: this changes nothing
    tokens_per_s: float  # median of one stream with it


def gains(
    swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, found: Prediction
) -> tuple[Gain, ...]:
    """Return every change at every node of the placement (and the client in the loop), best first."""
    if engine_facts(workload).pattern == "all-reduce" or workload.offload_gbps:
        return _by_prediction(swarm, model, placement, workload, found)
    return _Staged(swarm, model, placement, workload, found).all()


_UP = f"+{MORE_UP_MBPS:g} Mbit/s up"
_RTT_WORDS = f"−{LESS_RTT_MS:g} ms round trip"
_MEMORY = f"+{MORE_GIB:g} GiB"
_SPLIT = "layers split anew"


def _gain(node: str | None, change: str, ms: float, found: Prediction) -> Gain:
    saved = ms if ms > WORTH_MS else 0.0
    return Gain(node, change, saved, 1e3 / max(found.tpot_ms.p50 - saved, 1e-9))


def _sorted(listed: list[Gain]) -> tuple[Gain, ...]:
    return tuple(sorted(listed, key=lambda gain: (-gain.gain_ms, gain.node or "", gain.change)))


# ---------------------------------------------------------------- changed swarms


def _changed(swarm: Swarm, nodes: dict[str, Floats], links: dict[str, Floats]) -> Swarm:
    return dataclasses.replace(swarm, nodes={**swarm.nodes, **nodes}, links={**swarm.links, **links}, _index={})


def faster_uplink(swarm: Swarm, row: int) -> Swarm | None:
    """Return the swarm with a faster uplink; None if its rate is unknown, so that the effect of more is unknown
    too."""
    up = swarm.nodes["up_mbps"].copy()
    if not np.isfinite(up[row]):
        return None
    before, up[row] = float(up[row]), up[row] + MORE_UP_MBPS
    mbps = swarm.links["mbps"].copy()
    mbps[row, :] += MORE_UP_MBPS  # a transfer filled this uplink, or something between that is then in the way anyhow
    down = np.nan_to_num(swarm.nodes["down_mbps"], nan=np.inf)
    old, new = np.fmin(before, down), np.fmin(up[row], down)
    saved = swarm.links["hop_bytes"][row, :] * BITS_PER_BYTE / 1e3 * (1 / old - 1 / new)
    floor = np.nan_to_num(swarm.links["rtt_min_ms"][row, :], nan=0.0)
    hops = {}
    for name in _HOP:
        hops[name] = swarm.links[name].copy()
        hops[name][row, :] = np.fmax(hops[name][row, :] - saved, np.fmin(hops[name][row, :], floor))
    return _changed(swarm, {"up_mbps": up}, {"mbps": mbps, **hops})


def far(swarm: Swarm, row: int, others: Sequence[int]) -> bool:
    """Return whether some path between this node and the others is as long as what would be cut from it."""
    least = np.fmin(swarm.links["rtt_min_ms"], swarm.links["rtt_p50_ms"])
    paths = [float(ms) for other in others if other != row for ms in (least[row, other], least[other, row])]
    return any(ms >= LESS_RTT_MS for ms in paths if np.isfinite(ms))


def nearer(swarm: Swarm, row: int) -> Swarm:
    """Shorten every path from and to this node; a shorter one becomes zero."""
    least = np.fmin(swarm.links["rtt_min_ms"], swarm.links["rtt_p50_ms"])
    cut = np.fmin(np.nan_to_num(least, nan=0.0), LESS_RTT_MS)
    mask = np.zeros_like(cut, dtype=bool)
    mask[row, :] = mask[:, row] = True
    links = {}
    for name in (*_RTT, *_HOP, "hop_rtt_ms"):
        links[name] = swarm.links[name].copy()
        links[name][mask] = np.maximum(links[name][mask] - cut[mask], 0.0)
    links["oneway_ms"] = swarm.links["oneway_ms"].copy()
    links["oneway_ms"][mask] = np.maximum(links["oneway_ms"][mask] - cut[mask] / 2, 0.0)
    return _changed(swarm, {}, links)


def roomier(swarm: Swarm, row: int) -> Swarm:
    vram = swarm.nodes["vram_bytes"].copy()
    vram[row] += MORE_GIB * BYTES_PER_GIB
    return _changed(swarm, {"vram_bytes": vram}, {})


# ---------------------------------------------------------------- stages


class _Staged:
    def __init__(
        self, swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, found: Prediction
    ) -> None:
        self.swarm, self.model, self.workload, self.found = swarm, model, workload, found
        self.placement = tuple(sorted(placement, key=lambda stage: stage.first))
        self.rows = [swarm.index(stage.node) for stage in self.placement]
        self.costs = self._costs(swarm)
        self.order = list(range(len(self.placement)))
        self.layers = [stage.layers for stage in self.placement]
        self.base = self.costs.tables.price(self.order, self.layers)

    def _costs(self, swarm: Swarm, like: Costs | None = None) -> Costs:
        return build_costs(swarm, self.model, self.workload, self.rows, None if like is None else like.layer)

    def all(self) -> tuple[Gain, ...]:
        asked = [stage.node for stage in self.placement]
        tables = self.costs.tables
        if tables.client is not None and tables.names[tables.client] not in asked:
            asked.append(tables.names[tables.client])
        split = self._split_ms(self.costs)
        listed = [_gain(None, _SPLIT, self.base - split, self.found)] if self.base - split > WORTH_MS else []
        for name in asked:
            row = self.swarm.index(name)
            up = faster_uplink(self.swarm, row)
            if up is not None:
                listed.append(_gain(name, _UP, self.base - self._price(up), self.found))
            if far(self.swarm, row, self.rows):
                listed.append(_gain(name, _RTT_WORDS, self.base - self._price(nearer(self.swarm, row)), self.found))
            if row in self.rows:
                more = self._split_ms(self._costs(roomier(self.swarm, row), self.costs))
                listed.append(_gain(name, _MEMORY, min(self.base, split) - more, self.found))
        return _sorted(listed)

    def _price(self, swarm: Swarm) -> float:
        return self._costs(swarm, self.costs).tables.price(self.order, self.layers)

    def _split_ms(self, costs: Costs) -> float:
        """Return the best split over the same nodes in the same order; the present one where none fits."""
        layers = best_split(costs.tables, self.order)
        return self.base if layers is None else costs.tables.price(self.order, layers)


def _by_prediction(
    swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, found: Prediction
) -> tuple[Gain, ...]:
    """Predict where tables do not price the placement: all-reduces, and layers that are read again in every step. The
    layers stay where they are; more memory keeps more of them."""
    few = dataclasses.replace(workload, draws=FEW_DRAWS)

    def mean_ms(changed: Swarm) -> float:
        return predict(changed, model, placement, few).tpot_ms.mean

    base, listed = mean_ms(swarm), []
    for name in dict.fromkeys(stage.node for stage in placement):
        row = swarm.index(name)
        changes = [(_UP, faster_uplink(swarm, row))]
        if far(swarm, row, [swarm.index(stage.node) for stage in placement]):
            changes.append((_RTT_WORDS, nearer(swarm, row)))
        if workload.offload_gbps:
            changes.append((_MEMORY, roomier(swarm, row)))
        listed += [_gain(name, word, base - mean_ms(to), found) for word, to in changes if to is not None]
    return _sorted(listed)
