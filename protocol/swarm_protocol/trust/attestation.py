"""Compute the arithmetic of a challenge, for the collector (which checks) and a probe's child (which works).

A chain of products: y₀ = W x₀, xₜ = q(yₜ₋₁), yₜ = W xₜ. W is drawn from a public seed ahead of time, x₀ from a seed
that is sent when the clock starts, together with the node's id: nothing can be computed before, and one node's answer
is no other's. Each product needs the previous one, so the products cannot be combined. The prover commits to all
outputs by their hashes within the deadline, then shows the requested few; each is checked with Freivalds' test
(Freivalds 1977): for a secret random vector r of ±1, r·y must equal (rᵀW)·x, which costs two dot products instead of a
product. Numbers are small odd integers, so that only the rounding of y to the format's precision is left as an error:
by Hoeffding's inequality a true answer is off by more than TOLERANCE roundings once in 10⁷.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final

import numpy as np
import numpy.typing as npt

SIZE: Final = 4096  # rows and columns of W: 32 MiB in 16 bits, above most last-level caches
STEPS: Final = (16, 1024)
STEP_OF: Final = 16  # steps come in multiples of this, so that a device can be given that many at once
SEED_BYTES: Final = 32
HASH_BYTES: Final = 32
LARGEST: Final = 15  # of an entry, odd numbers from −15
SPREAD: Final = 9.219544  # their standard deviation, √85
PUSH: Final = 1.08  # clipping makes inputs smaller: this keeps them from vanishing
PROJECTIONS: Final = 2
TOLERANCE: Final = 6.0
ROUNDING: Final = {"fp32": 2.0**-23, "fp16": 2.0**-10, "bf16": 2.0**-7}  # units in the last place of an output

Vector = npt.NDArray[np.float32]


def matrix(seed: bytes, size: int = SIZE) -> npt.NDArray[np.int8]:
    """Return W. Philox's raw numbers are the same in every version of numpy."""
    return _odd(seed, size * size).reshape(size, size)


def first_input(seed: bytes, node_id: str, challenge_id: int, size: int = SIZE) -> npt.NDArray[np.int8]:
    bound = hashlib.sha256(b"swarmtop challenge" + seed + f"{node_id} {challenge_id}".encode()).digest()
    return _odd(bound, size)


def _odd(seed: bytes, count: int) -> npt.NDArray[np.int8]:
    key = np.frombuffer(hashlib.sha256(seed).digest()[:16], "<u8")
    raw = np.random.Philox(key=key).random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count]
    return (raw & 15).astype(np.int8) * 2 - LARGEST


def gain(size: int = SIZE) -> np.float32:
    """Return the factor of an output before it is rounded to the next input."""
    return np.float32(PUSH / (math.sqrt(size) * SPREAD))


def next_input(y: Vector, size: int = SIZE) -> Vector:
    """Apply q: single precision and round half to even, which is the same on every device."""
    rounded: Vector = np.clip(np.rint(y * gain(size)), -LARGEST, LARGEST).astype(np.float32)
    return rounded


def commitment(y: bytes) -> bytes:
    return hashlib.sha256(y).digest()


class Checker:
    """Freivalds' test against one matrix. Prepared ahead of time; a check is two dot products of SIZE."""

    def __init__(self, seed: bytes, secret: bytes, size: int = SIZE) -> None:
        """Prepare the test. `secret` is known to the checker only: whoever knows r can make a wrong y pass."""
        signs = np.sign(_odd(secret, PROJECTIONS * size)).reshape(PROJECTIONS, size).astype(np.float32)
        self._size = size
        self._signs = signs.astype(np.float64)
        # exact in single precision: sums of at most SIZE · 15 < 2²⁴
        self._projected = (signs @ matrix(seed, size).astype(np.float32)).astype(np.float64)

    def holds(self, x: Vector, y: Vector, dtype: str) -> bool:
        """Return whether y = W x, within the precision of this format."""
        if not np.all(np.isfinite(y)):
            return False
        off = np.abs(self._signs @ y.astype(np.float64) - self._projected @ x.astype(np.float64))
        allowed = TOLERANCE * ROUNDING[dtype] * float(np.linalg.norm(y.astype(np.float64)))
        return bool(np.all(off <= allowed))
