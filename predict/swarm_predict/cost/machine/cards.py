"""Count the graphics cards of one machine that share every layer, and the time in which they exchange their sums.

Some engines run a machine's cards one after the other, each with layers of its own (llama.cpp, and whatever the layer
times of several cards are a mean of). vLLM and SGLang split every layer among them: each card reads a share of it, and
two all-reduces a layer add the shares up. All stages of one run have the same number of cards in a group, and it
divides the attention heads; cards beyond that are further stages in the same machine.

How long a small all-reduce takes is part of the launches of a layer (`priors`), in rounds that grow with the logarithm
of the cards: QwQ-32B on A100 under vLLM 0.7.2 takes 0.09, 0.14 and 0.16 ms a layer beyond reading on 2, 4 and 8 cards
(vllm-project/vllm issue 16300). What counts here are its bytes, which are what a prompt pays for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from swarm_predict.cost.engines import ENGINES
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.factors import launch_rounds
from swarm_predict.types import Placement, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm

ALL_REDUCES_PER_LAYER: Final = 2  # after attention and after the MLP
SUM_BYTES: Final = 2  # an element of the partial sums
_COUNT: Final = re.compile(r"\s*(\d{1,2})\s*[x×]\s*(.*)")
# rate at which a card takes part in an all-reduce, GB/s: round figures for what nccl-tests report within one machine
# over NVLink 5, 4, 3 and 2, and PCIe 4.0 without access from card to card; assumed, not measured or read at a source
_NVLINK: Final = (
    (re.compile(r"\b(gb|b)[23]00\b", re.IGNORECASE), 700.0),
    (re.compile(r"\b(h100|h200|h800|gh200)\b(?!.*pcie)", re.IGNORECASE), 360.0),
    (re.compile(r"\ba100\b(?!.*pcie)", re.IGNORECASE), 230.0),
    (re.compile(r"\bv100\b(?!.*pcie)", re.IGNORECASE), 130.0),
)
_PCIE: Final = 12.0


def names_of(device: str) -> list[str]:
    """Return one name for each card: `2x RTX 3090`, `RTX 3060 + RTX A4000`."""
    found: list[str] = []
    for part in device.split(" + "):
        counted = _COUNT.match(part)
        found += [counted[2].strip()] * int(counted[1]) if counted else [part.strip()]
    return found


def cards_of(device: str) -> int:
    """Return how many cards a device name stands for."""
    return len(names_of(device))


def card_counts(swarm: Swarm, rows: Iterable[int]) -> list[int]:
    """Return how many cards each of these machines has; 1 where it does not say."""
    return [cards_of(swarm.facts[row].device) for row in rows]


def shared_by(device: str, model: ModelShape, engine: str, size: int = 0) -> int:
    """Return how many cards of the machine split each layer between them.

    `size`: the size of all groups of the run; 0: as many cards as are alike, and divide the attention heads."""
    if not ENGINES[engine].cards_together:
        return 1
    names = names_of(device)
    if len(set(names)) > 1:
        return 1  # the smallest would bound all: one after the other they are at least all used
    return _largest(math.gcd(len(names), size) if size else len(names), model)


def _largest(cards: int, model: ModelShape) -> int:
    return max(size for size in range(1, cards + 1) if cards % size == 0 and model.heads % size == 0)


def groups_of_cards(swarm: Swarm, names: Iterable[str], model: ModelShape, workload: Workload) -> dict[str, int]:
    """Return how many cards of each machine split every layer."""
    return {
        name: shared_by(swarm.facts[swarm.index(name)].device, model, workload.engine, workload.tensor_parallel)
        for name in names
    }


def with_one_size(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> Workload:
    """Return the workload with the largest groups of cards that all machines of a placement can have."""
    sizes = set(groups_of_cards(swarm, [stage.node for stage in placement], model, workload).values())
    return workload if len(sizes) < 2 else replace(workload, tensor_parallel=math.gcd(*sizes))


def exchange_ms(device: str, cards: int, tokens: int, model: ModelShape) -> float:
    """Return the time that the bytes of one layer's all-reduces take for this many tokens, around a ring of cards."""
    if cards < 2:
        return 0.0
    name = names_of(device)[0]
    rate_gbps = next((rate for pattern, rate in _NVLINK if pattern.search(name)), _PCIE)
    around = 2 * (cards - 1) / cards * tokens * model.hidden * SUM_BYTES
    return ALL_REDUCES_PER_LAYER * around / (rate_gbps * 1e6)


def exchanges_ms(devices: Sequence[str], cards: Sequence[int], tokens: int, model: ModelShape) -> Floats:
    """Return `exchange_ms` of each of these machines."""
    return np.array([exchange_ms(device, count, tokens, model) for device, count in zip(devices, cards, strict=True)])


def split_ms(alone_ms: float, launch_ms: float, cards: int) -> float:
    """Return the time of a layer that takes `alone_ms` on one card; `launch_ms`: the launches where cards split it."""
    fixed_ms = min(launch_ms / launch_rounds(cards), alone_ms)  # what of it is not reading
    return (alone_ms - fixed_ms) / cards + launch_ms
