"""Compute matrices over all pairs of many nodes a part at a time.

Some fifty matrices are computed on the way to a delivery time. Of a thousand nodes at once they took 400 MB; in parts
they take a tenth of it. A part is the pairs of two groups of nodes, in either direction, because a path's figures are
compared with those of the way back.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats, Ints

WHOLE_NODES: Final = 300  # all pairs of so few are computed at once: 25 MB on the way
GROUP_NODES: Final = 128  # with 250 it is a tenth faster, and takes 120 MB instead of 44

Matrices = Callable[[Ints], tuple[Floats, ...]]


def over_pairs(count: int, compute: Matrices) -> tuple[Floats, ...]:
    """Return what `compute` returns for all `count` rows: matrices of rows × rows. It is called with some rows at a
    time, and each cell of its matrices may depend on the two nodes of the cell alone."""
    rows = np.arange(count)
    if count <= WHOLE_NODES:
        return compute(rows)
    groups = np.array_split(rows, -(-count // GROUP_NODES))
    whole: tuple[Floats, ...] = ()
    for one, other in combinations(range(len(groups)), 2):
        parts = groups[one], groups[other]
        of_both = compute(np.concatenate(parts))
        if not whole:
            whole = tuple(np.empty((count, count), matrix.dtype) for matrix in of_both)
        first = len(parts[0])
        for into, matrix in zip(whole, of_both, strict=True):
            here, there = (slice(int(part[0]), int(part[-1]) + 1) for part in parts)
            into[here, there], into[there, here] = matrix[:first, first:], matrix[first:, :first]
            into[here, here], into[there, there] = matrix[:first, :first], matrix[first:, first:]
    return whole
