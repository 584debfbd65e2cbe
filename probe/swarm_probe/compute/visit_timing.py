"""Time what a visit costs beyond its layers: tokens arrive one by one, and the machine waits in between.

Layers are timed in a tight loop, which is how long they take once they run. A token arrives as bytes after a pause, at
caches that others have filled, at threads that went to sleep and a processor that did. Measured on one thread, over
layers in a loop, in ms:

    pause        1 layer of 0.17   3 layers   6 layers      1 layer of 1.64   3 layers   6 layers
      5 ms           +0.2            +0.2       +0.8             +0.1           +0.4       +0.2
     20 ms           +0.5            +0.8       +1.2             +0.3           +0.6       +0.7
    100 ms           +0.7            +1.0       +1.5             +0.6           +0.9       +1.4

(On two threads of a kernel with ticks of 10 ms, +10 after 40 ms: the second thread is woken behind the first.) So a
few layers after the pause that is usual here, from bytes to bytes, less as many of the loop, are what each visit adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

import torch

from swarm_probe.compute.convergence import Timing, Turned, quantile
from swarm_probe.compute.devices import Device
from swarm_probe.compute.layers.decoder_layer import DecoderLayer, Weights

LEAST_AWAY_S: Final = 0.005  # what a token spends elsewhere, of stages in one room
MOST_AWAY_S: Final = 0.1  # longer pauses cost hardly more
VISITS: Final = 15
STAGE_LAYERS: Final = 4  # of a visit to a processor; to an accelerator one, which has no caches to lose
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
    away_s: float = LEAST_AWAY_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Timing | None:
    """Seconds above `layer_s` a layer with `tokens` in the cache, never below zero; None where too few fit the time
    there is. May raise torch's errors for memory."""
    drawn = Weights(1, dtype, device.torch_name)
    some = [(layer, layer.new_cache(1, tokens + 1, fill=drawn)) for layer in layers[:STAGE_LAYERS]]
    pause_s = min(max(away_s, LEAST_AWAY_S), MOST_AWAY_S)
    width = layers[0].shape.hidden
    packed = _to_bytes(drawn.matrix(1, width) * width**0.5)
    taken: list[float] = []
    ends = time.perf_counter() + BUDGET_S
    with torch.inference_mode():
        for visit in range(VISITS):
            sleep(pause_s)
            stage = some if device.torch_name == "cpu" else [some[visit % len(some)]]
            used, waited, before = turns.used_s(), turns.waited_s(), time.perf_counter()
            hidden = torch.frombuffer(bytearray(packed), dtype=WIRE).view(1, 1, width).to(device.torch_name).to(dtype)
            for layer, cache in stage:
                hidden = layer.forward(hidden, cache, tokens)
            _to_bytes(hidden)
            after = time.perf_counter()
            ran_s = after - before - (turns.waited_s() - waited)
            taken.append(max(0.0, max(ran_s, turns.least_s(turns.used_s() - used)) - len(stage) * layer_s))
            if after > ends:
                break
    if len(taken) < LEAST:
        return None
    ordered = sorted(taken)
    return Timing(median(ordered), quantile(ordered, 0.05), quantile(ordered, 0.95), len(ordered), True, 0.0)


def _to_bytes(hidden: torch.Tensor) -> bytes:
    """Waits for the device, as handing on an activation does."""
    return bytes(hidden.to(WIRE).cpu().contiguous().view(torch.uint8).numpy().tobytes())
