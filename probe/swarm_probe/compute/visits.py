"""What a visit takes beyond its layers: tokens come one by one, and between them the machine waits.

Layers are timed in a tight loop, which is how long they take once they run. A token arrives as bytes after a pause, at
caches that others have filled and at a processor that has slept: measured on two cores, one layer of 0.31 ms then takes
0.66 after 5 ms, 0.75 after 20 and 0.85 after 100, and each further layer of the same visit 0.31 to 0.35 again. So the
first layer after a pause, from bytes to bytes, less a layer of the loop, is what each visit adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

import torch

from swarm_probe.compute.devices import Device
from swarm_probe.compute.layers import DecoderLayer, Weights
from swarm_probe.compute.timing import Timing, Turned, quantile

# What a token spends elsewhere at the least. Longer pauses cost little more, and nothing beside the token they are of.
PAUSE_S: Final = 0.005
VISITS: Final = 15
CACHES: Final = 4  # layers taken in turn
BUDGET_S: Final = 2.0
LEAST: Final = 5
WIRE: Final = torch.float16  # what activations travel in


def time_visit(
    device: Device,
    layers: Sequence[DecoderLayer],
    dtype: torch.dtype,
    tokens: int,
    layer_s: float,
    turns: Turned,
    sleep: Callable[[float], None] = time.sleep,
) -> Timing | None:
    """Seconds above `layer_s` with `tokens` in the cache, never below zero; None where too few fit the time there is.
    May raise torch's errors for memory."""
    drawn = Weights(1, dtype, device.torch_name)
    some = [(layer, layer.new_cache(1, tokens + 1, fill=drawn)) for layer in layers[:CACHES]]
    width = layers[0].shape.hidden
    packed = _to_bytes(drawn.matrix(1, width) * width**0.5)
    taken: list[float] = []
    ends = time.perf_counter() + BUDGET_S
    with torch.inference_mode():
        for visit in range(VISITS):
            sleep(PAUSE_S)
            layer, cache = some[visit % len(some)]
            used, waited, before = turns.used_s(), turns.waited_s(), time.perf_counter()
            arrived = torch.frombuffer(bytearray(packed), dtype=WIRE).view(1, 1, width)
            _to_bytes(layer.forward(arrived.to(device.torch_name).to(dtype), cache, tokens))
            after = time.perf_counter()
            ran_s = after - before - (turns.waited_s() - waited)
            taken.append(max(0.0, max(ran_s, turns.least_s(turns.used_s() - used)) - layer_s))
            if after > ends:
                break
    if len(taken) < LEAST:
        return None
    ordered = sorted(taken)
    return Timing(median(ordered), quantile(ordered, 0.05), quantile(ordered, 0.95), len(ordered), True, 0.0)


def _to_bytes(hidden: torch.Tensor) -> bytes:
    """Waits for the device, as handing on an activation does."""
    return bytes(hidden.to(WIRE).cpu().contiguous().view(torch.uint8).numpy().tobytes())
