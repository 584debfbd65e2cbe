"""Random small instances, and their best placement by plain enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from swarm_predict.cost.tables import CostTables


def tables_of(seed: int, nodes: int, layers: int, pattern: str, client: bool, room: float = 1.6) -> CostTables:
    """An instance with uneven nodes, unsymmetric links, and less room on the first and last stage."""
    rng = np.random.default_rng(seed)
    mean = max(1.0, room * layers / nodes)
    middle = rng.integers(0, max(2, round(2 * mean)) + 1, nodes)
    first = np.maximum(middle - rng.integers(0, 2, nodes), 0)
    last = np.maximum(middle - rng.integers(0, 3, nodes), 0)
    hop = rng.uniform(1, 60, (nodes, nodes))
    back = hop * rng.uniform(0.5, 1.0)
    np.fill_diagonal(hop, 0)
    np.fill_diagonal(back, 0)
    none = np.zeros(nodes)
    return CostTables(
        names=tuple(f"n{i}" for i in range(nodes)),
        pattern="star" if pattern == "star" else "chain",
        client=0 if client else None,
        layers=layers,
        layer_ms=rng.uniform(1, 12, nodes),
        overhead_ms=rng.uniform(0, 15, nodes),
        capacity=middle,
        capacity_first=first,
        capacity_last=last,
        capacity_only=np.minimum(first, last),
        hop_ms=hop,
        back_ms=back,
        enter_ms=rng.uniform(1, 60, nodes) if client else none,
        leave_ms=rng.uniform(1, 60, nodes) if client else none,
        final_ms=rng.uniform(1, 60, nodes) if client else none,
        head_ms=rng.uniform(0, 9, nodes),
        client_head_ms=float(rng.uniform(0, 5)),
        uplink_ms=rng.uniform(1, 25, nodes),
        uplink_last_ms=rng.uniform(0, 10, nodes),
        client_uplink_ms=float(rng.uniform(0, 5)) if client else 0.0,
    )


def capacities(tables: CostTables, order: tuple[int, ...]) -> list[int]:
    if len(order) == 1:
        return [int(tables.capacity_only[order[0]])]
    return [
        int(tables.capacity_first[order[0]]),
        *(int(tables.capacity[i]) for i in order[1:-1]),
        int(tables.capacity_last[order[-1]]),
    ]


def splits(total: int, caps: list[int]) -> Iterator[list[int]]:
    if len(caps) == 1:
        if 1 <= total <= caps[0]:
            yield [total]
        return
    for count in range(1, min(caps[0], total - len(caps) + 1) + 1):
        for rest in splits(total - count, caps[1:]):
            yield [count, *rest]


def every_placement(tables: CostTables) -> Iterator[tuple[list[int], list[int]]]:
    nodes = range(len(tables.names))
    for size in range(1, min(len(tables.names), tables.layers) + 1):
        for order in itertools.permutations(nodes, size):
            for layers in splits(tables.layers, capacities(tables, order)):
                yield list(order), layers


def permuted(tables: CostTables, to: list[int]) -> CostTables:
    """The same swarm listed in another order."""
    return tables.of(to)
