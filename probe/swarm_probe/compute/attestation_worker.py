"""Answer a challenge on one device: draw the matrix, wait for the seed, multiply, commit, open what is requested.

The arithmetic and what it proves: swarm_protocol.trust.attestation.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it

from swarm_probe.compute.devices import DTYPES, Device, choose_dtype
from swarm_probe.compute.job import Order
from swarm_probe.compute.layers.cuda_graphs import captured, captures
from swarm_protocol.messages.probe_messages import (
    Challenge,
    ChallengeCommit,
    ChallengeGo,
    ChallengeOpen,
    ChallengeOpened,
    ChallengeReady,
)
from swarm_protocol.trust import attestation as arithmetic

TRIALS: Final = 5


def answer(
    device: Device, challenge: Challenge, node_id: str, orders: Iterator[Order]
) -> Iterator[ChallengeReady | ChallengeCommit | ChallengeOpened]:
    """Yield one report for each order, after the first; end when the outputs were shown or no order comes."""
    dtype = choose_dtype(device, challenge.dtype)
    chain = Chain(device, dtype, challenge.matrix_seed)
    yield ChallengeReady(challenge_id=challenge.challenge_id, dtype=dtype, step_ms=chain.step_ms())
    outputs: torch.Tensor | None = None
    for order in orders:
        if order.challenge_id != challenge.challenge_id:
            print(f"an order for another challenge, {order.challenge_id}", file=sys.stderr)
        elif isinstance(order, ChallengeGo):
            x = arithmetic.first_input(order.seed, node_id, order.challenge_id)
            outputs = chain.run(torch.from_numpy(x), order.steps)
            hashes = b"".join(arithmetic.commitment(_bytes(row)) for row in outputs)
            yield ChallengeCommit(challenge_id=order.challenge_id, hashes=hashes)
        elif isinstance(order, ChallengeOpen) and outputs is not None:
            shown = tuple(_bytes(outputs[step]) for step in order.steps if 0 <= step < len(outputs))
            yield ChallengeOpened(challenge_id=order.challenge_id, outputs=shown)
            return


class Chain:
    """One matrix on the device, and a few products in a row with it."""

    def __init__(self, device: Device, dtype: str, matrix_seed: bytes) -> None:
        self._device = device
        kind = DTYPES[dtype]
        self._matrix = torch.from_numpy(arithmetic.matrix(matrix_seed)).to(device.torch_name).to(kind)
        self._input = torch.zeros(1, arithmetic.SIZE, dtype=kind, device=device.torch_name)
        self._outputs = torch.zeros(arithmetic.STEP_OF, arithmetic.SIZE, device=device.torch_name)
        self._gain = float(arithmetic.gain())
        act: Callable[[], object] = self._some
        self._act = captured(device.torch_name, act) if captures(device.torch_name) else act

    @torch.inference_mode()
    def _some(self) -> None:
        for row in self._outputs:
            row.copy_(F.linear(self._input, self._matrix)[0])
            turned = (row * self._gain).round_().clamp_(-arithmetic.LARGEST, arithmetic.LARGEST)
            self._input.copy_(turned[None])

    @torch.inference_mode()
    def run(self, x: torch.Tensor, steps: int) -> torch.Tensor:
        """Return the products, (steps, SIZE), in single precision, on the host."""
        kept = torch.empty(-(-steps // arithmetic.STEP_OF), *self._outputs.shape, device=self._device.torch_name)
        self._input.copy_(x[None])
        for some in kept:
            self._act()
            some.copy_(self._outputs)
        return kept.flatten(0, 1)[:steps].cpu()

    def step_ms(self) -> float:
        """Return the fastest time of a few."""
        times = []
        for _ in range(TRIALS):
            began = time.perf_counter()
            self.run(torch.ones(arithmetic.SIZE), arithmetic.STEP_OF)
            times.append((time.perf_counter() - began) * 1000 / arithmetic.STEP_OF)
        return min(times)


def _bytes(row: torch.Tensor) -> bytes:
    return row.numpy().astype("<f4").tobytes()
