"""Place machines as points whose distances approximate their round trips, as well as a plane allows.

Classical scaling of the matrix (Torgerson), which has one solution, then some rounds of stress majorisation (SMACOF),
so that near machines are near each other; pairs without a measurement have no influence.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats

ROUNDS: Final = 30
MAX_NODES: Final = 200  # distances that a screen can tell apart


def positions(rtt_ms: Floats) -> Floats:
    """Return (n, 2), within 0..1 each way; NaN of a pair: not known. The same matrix gives the same picture."""
    n = len(rtt_ms)
    if n < 2:
        return np.full((n, 2), 0.5)
    both = np.fmin(rtt_ms, rtt_ms.T)
    known = np.isfinite(both) & ~np.eye(n, dtype=bool)
    middle = float(np.median(both[known])) if known.any() else 1.0
    far = np.where(known, both, middle)
    np.fill_diagonal(far, 0.0)
    squared = far**2
    centred = -0.5 * (squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean())
    values, vectors = np.linalg.eigh(centred)
    found = vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 0.0))
    ring = 2 * np.pi * np.arange(n) / n
    found = found + 0.01 * middle * np.column_stack([np.cos(ring), np.sin(ring)])  # no two on one point
    # near pairs count more: people look for which machines are close together
    weight = np.where(known, 1.0 / np.maximum(far, middle / 50), 0.0)
    total = np.maximum(weight.sum(axis=1), 1e-9)[:, None]
    for _ in range(ROUNDS):
        apart = found[:, None, :] - found[None, :, :]
        length = np.maximum(np.sqrt((apart**2).sum(axis=2)), 1e-9)
        pull = (weight * far / length)[:, :, None] * apart + weight[:, :, None] * found[None, :, :]
        found = pull.sum(axis=1) / total
    found = found - found.min(axis=0)
    return np.asarray(found / np.maximum(found.max(axis=0), 1e-9))
