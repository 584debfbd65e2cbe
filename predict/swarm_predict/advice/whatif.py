"""Price edits of a plan in microseconds each: move a boundary, swap, drop, add or replace a node.

Works on cost tables alone, so it answers while a key is held down; the full prediction with its interval is
`prediction` on the chosen placement. Edits that change the set of nodes split the layers again (one each, then fastest
first), a moved boundary changes nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swarm_predict.cost.tables import CostTables
from swarm_predict.search.chain import best_split
from swarm_predict.types import BadPlacement, Placement, Stage


@dataclass(frozen=True, slots=True)
class Edit:
    """A placement and what it costs. `delta_ms` below 0 is an improvement."""

    placement: Placement
    value_ms: float  # p50 of one token; infinite if a time or link is not known
    delta_ms: float
    fits: bool
    what: str  # "swap kiln-07 and lofi"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Edits of one placement."""

    tables: CostTables
    placement: Placement

    @property
    def value_ms(self) -> float:
        order, layers = self._rows(self.placement)
        return self.tables.price(order, layers)

    def move(self, stage: int, layers: int) -> Edit:
        """Move `layers` layers from `stage` to the next stage; a negative number moves them back."""
        if not 0 <= stage < len(self.placement) - 1:
            raise BadPlacement(f"there is no boundary after stage {stage + 1} of {len(self.placement)}")
        order, counts = self._rows(self.placement)
        counts[stage] -= layers
        counts[stage + 1] += layers
        if counts[stage] < 1 or counts[stage + 1] < 1:
            names = self._name(order[stage]), self._name(order[stage + 1])
            raise BadPlacement(f"moving {layers} layers from {names[0]} to {names[1]} would leave one with none")
        return self._edit(order, counts, f"move {layers} layers from {self._name(order[stage])}")

    def swap(self, one: int, other: int) -> Edit:
        """Swap the two stages in the order; layers are split again."""
        order, _ = self._rows(self.placement)
        order[one], order[other] = order[other], order[one]
        return self._resplit(order, f"swap {self._name(order[other])} and {self._name(order[one])}")

    def drop(self, stage: int) -> Edit:
        order, _ = self._rows(self.placement)
        gone = order.pop(stage)
        if not order:
            raise BadPlacement(f"{self._name(gone)} is the only stage; replace it instead")
        return self._resplit(order, f"drop {self._name(gone)}")

    def add(self, node: str, at: int) -> Edit:
        order, _ = self._rows(self.placement)
        order.insert(at, self._newcomer(node, order))
        return self._resplit(order, f"add {node}")

    def replace(self, stage: int, node: str) -> Edit:
        order, _ = self._rows(self.placement)
        before = order[stage]
        order[stage] = self._newcomer(node, order)
        return self._resplit(order, f"{self._name(before)} → {node}")

    def candidates(self, stage: int) -> tuple[Edit, ...]:
        """Return every outsider in place of this stage, the best first; those that do not fit are left out."""
        inside = {entry.node for entry in self.placement}
        edits = [self.replace(stage, name) for name in self.tables.names if name not in inside]
        return tuple(sorted((edit for edit in edits if edit.fits), key=lambda edit: (edit.value_ms, edit.what)))

    def _resplit(self, order: list[int], what: str) -> Edit:
        counts = best_split(self.tables, order)
        if counts is not None:
            return self._edit(order, counts, what)
        stages = tuple(Stage(self._name(row), 0, -1) for row in order)
        return Edit(stages, np.inf, np.inf, False, what)

    def _edit(self, order: list[int], counts: list[int], what: str) -> Edit:
        stages, begin = [], 0
        for row, count in zip(order, counts, strict=True):
            stages.append(Stage(self._name(row), begin, begin + count - 1))
            begin += count
        value = self.tables.price(order, counts)
        fits = all(count <= cap for count, cap in zip(counts, self.tables.capacities(order), strict=True))
        return Edit(tuple(stages), value, value - self.value_ms, fits and bool(np.isfinite(value)), what)

    def _rows(self, placement: Placement) -> tuple[list[int], list[int]]:
        return [self._row(stage.node) for stage in placement], [stage.layers for stage in placement]

    def _newcomer(self, node: str, order: list[int]) -> int:
        row = self._row(node)
        if row in order:
            raise BadPlacement(f"{node} is in this placement already; a node holds one stage")
        return row

    def _row(self, node: str) -> int:
        try:
            return self.tables.names.index(node)
        except ValueError:
            raise BadPlacement(f"there is no node {node!r} in this swarm") from None

    def _name(self, row: int) -> str:
        return self.tables.names[row]
