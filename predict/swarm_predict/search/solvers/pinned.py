"""Find a placement in which some nodes hold given layers, such as those whose weights they already have.

A pinned stage cuts the model: what comes before it and what comes behind it are split on their own, fastest first, so
the free choice of `chain` is gone and so is its exact search. Here a descent over orders prices each cut by
itself; the bound is that of the same question without the cuts, with the pinned nodes merely required.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from swarm_predict.cost.tables import CostTables
from swarm_predict.types import BadPlacement, DoesNotFit, Stage

_POOL: Final = 40  # newcomers tried at every place
_STEPS: Final = 200  # of the descent; each gains
_TIE_MS: Final = 1e-9

Order = tuple[int, ...]
Pins = dict[int, tuple[int, int]]  # first and last layer by row


def check_pins(pins: Sequence[Stage], layers: int) -> None:
    """Check the pins. Raises BadPlacement for pins that no placement keeps."""
    for k, stage in enumerate(pins):
        what = f"{stage.node}:{stage.first}-{stage.last}"
        if not 0 <= stage.first <= stage.last < layers:
            raise BadPlacement(f"--pin {what} is not within layers 0-{layers - 1}")
        for other in pins[:k]:
            if other.node == stage.node:
                raise BadPlacement(f"--pin names {stage.node} twice; a node holds one stage")
            if other.first <= stage.last and stage.first <= other.last:
                raise BadPlacement(f"--pin {what} overlaps {other.node}:{other.first}-{other.last}")


def split_pinned(tables: CostTables, order: Sequence[int], pins: Pins) -> list[int] | None:
    """Return the layers of each stage, the pinned ones as they are; None if they do not fit."""
    caps = tables.capacities(list(order))
    counts = [0] * len(order)
    begin = cursor = 0
    for k, row in enumerate([*order, -1]):
        first, last = (tables.layers, tables.layers - 1) if row < 0 else pins.get(row, (-1, -1))
        if first < 0:
            continue
        if not _share(tables, order, caps, counts, range(begin, k), first - cursor):
            return None
        if row >= 0:
            counts[k] = last - first + 1
            if counts[k] > caps[k]:
                return None
        begin, cursor = k + 1, last + 1
    return counts


def _share(
    tables: CostTables, order: Sequence[int], caps: Sequence[int], counts: list[int], places: range, total: int
) -> bool:
    """Split `total` layers over these places: one each, then fastest first."""
    left = total - len(places)
    if left < 0 or any(caps[k] < 1 for k in places):
        return False
    for k in sorted(places, key=lambda k: (float(tables.layer_ms[order[k]]), order[k])):
        more = min(left, caps[k] - 1)
        counts[k] = 1 + more
        left -= more
    return left == 0


def solve_pinned(
    tables: CostTables,
    pins: Pins,
    begin: Order,
    usable: Sequence[int],
    kept: frozenset[int],
    max_stages: int,
    out_of_time: Callable[[], bool],
) -> tuple[Order, list[int], float]:
    """Return (order, layers, ms) by steepest descent from `begin`, the answer without pins. `kept`: rows that stay in,
    the pinned ones among them.

    Raises DoesNotFit if the descent finds nothing that holds the model.
    """
    fixed = sorted(pins, key=lambda row: pins[row])
    best: Order = ()
    cost = float("inf")
    free = [row for row in begin if row not in pins]
    needed = [row for row in sorted(kept) if row not in pins]
    for start in _starts(fixed, free, needed, pins, tables):
        order, value = _descend(tables, pins, start, usable, kept, max_stages, out_of_time)
        if value < cost:
            best, cost = order, value
    layers = split_pinned(tables, best, pins) if best else None
    if layers is None:
        raise DoesNotFit("no placement keeps these pins; free one, or give its neighbours more room")
    return best, layers, cost


def _starts(fixed: list[int], free: list[int], needed: list[int], pins: Pins, tables: CostTables) -> Iterator[Order]:
    """Assign free nodes to the gaps between pins, fastest first, to where most layers are missing."""
    if not needed:
        yield tuple(fixed)
    gaps, cursor = [], 0
    for row in fixed:
        gaps.append(pins[row][0] - cursor)
        cursor = pins[row][1] + 1
    gaps.append(tables.layers - cursor)
    for spread in (1.0, 0.5):  # of what a node can hold: full, or half, so that more nodes take part
        left, parts = list(gaps), [[] for _ in gaps]  # type: list[int], list[list[int]]
        for row in sorted(free, key=lambda row: float(tables.layer_ms[row])):
            widest = max(range(len(left)), key=lambda gap: left[gap])
            if left[widest] > 0 or row in needed:
                parts[widest].append(row)
                left[widest] -= max(1, int(tables.capacity[row] * spread))
        order: list[int] = []
        for part, row in zip(parts, [*fixed, -1], strict=True):
            order += part + ([row] if row >= 0 else [])
        yield tuple(order)


def _price(tables: CostTables, order: Order, pins: Pins) -> float:
    """Price an order; layers without a place cost more than any step, so that filling up comes first."""
    layers = split_pinned(tables, order, pins)
    if layers is not None:
        value = tables.price(list(order), layers)
        return value if np.isfinite(value) else float("inf")
    return 1e9 + _missing(tables, order, pins) * 1e6


def _missing(tables: CostTables, order: Order, pins: Pins) -> float:
    caps = tables.capacities(list(order)) if order else []
    missing, cursor, room = 0.0, 0, 0
    for row, cap in zip([*order, -1], [*caps, 0], strict=True):
        if row >= 0 and row not in pins:
            room += cap
            continue
        first, last = pins[row] if row >= 0 else (tables.layers, tables.layers - 1)
        missing += max(0, first - cursor - room) + (max(0, last - first + 1 - cap) if row >= 0 else 0)
        room, cursor = 0, last + 1
    return missing + 0.01 * len(order)


def _descend(
    tables: CostTables,
    pins: Pins,
    order: Order,
    usable: Sequence[int],
    kept: frozenset[int],
    max_stages: int,
    out_of_time: Callable[[], bool],
) -> tuple[Order, float]:
    cost = _price(tables, order, pins)
    for _ in range(_STEPS):
        if out_of_time() and cost < 1e9:
            break
        best, best_cost = order, cost
        for tried in _neighbours(tables, order, usable, kept, pins, max_stages):
            value = _price(tables, tried, pins)
            if value < best_cost - _TIE_MS:
                best, best_cost = tried, value
        if best is order:
            break
        order, cost = best, best_cost
    return order, cost


def _neighbours(
    tables: CostTables, order: Order, usable: Sequence[int], kept: frozenset[int], pins: Pins, max_stages: int
) -> Iterator[Order]:
    outside = [row for row in usable if row not in order]
    if len(outside) > _POOL:
        near = np.full(len(tables.names), np.inf)
        for row in order:
            near = np.fmin(near, tables.hop_ms[row] + tables.hop_ms[:, row])
        worth = tables.layer_ms + (tables.overhead_ms + near / 2) / np.maximum(tables.capacity, 1)
        outside = sorted(outside, key=lambda row: (float(worth[row]), row))[:_POOL]
    for k, row in enumerate(order):
        rest = order[:k] + order[k + 1 :]
        if row not in pins:
            for place in range(len(rest) + 1):
                yield (*rest[:place], row, *rest[place:])
        if row not in kept:
            yield rest
            for newcomer in outside:
                yield (*order[:k], newcomer, *order[k + 1 :])
    if len(order) < max_stages:
        for newcomer in outside:
            for place in range(len(order) + 1):
                yield (*order[:place], newcomer, *order[place:])
