"""Time the overhead of a visit beyond its layers: tokens arrive one by one, and the machine idles in between.

Layers are timed in a tight loop, which gives the time once they run. A token arrives as bytes after a pause,
when caches hold other data and threads and processor are asleep. Measured on one thread, over layers in a loop, in
ms:

    pause        1 layer of 0.17   3 layers   6 layers      1 layer of 1.64   3 layers   6 layers
      5 ms           +0.2            +0.2       +0.8             +0.1           +0.4       +0.2
     20 ms           +0.5            +0.8       +1.2             +0.3           +0.6       +0.7
    100 ms           +0.7            +1.0       +1.5             +0.6           +0.9       +1.4

(On two threads of a kernel with ticks of 10 ms, +10 after 40 ms: the second thread is woken behind the first.) It grows
with the layers of the stage, so two sizes are timed: one layer and STAGE_LAYERS, in turn, after the pause that a token
of the plan leaves here (`visit_pause`), from bytes to bytes, less as many layers of the loop. What a visit takes beyond
its layers, and what each layer of it takes more than in a loop, follow from the two. Visits in which other work had to
wait for a processor (PSI), or this one, count only where too few others are left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import torch

from swarm_probe.compute.devices import Device
from swarm_probe.compute.layers.decoder_layer import DecoderLayer, Weights
from swarm_probe.compute.timing.convergence import PreemptionSource, Timing, quantile
from swarm_probe.compute.timing.visit_pause import MIN_AWAY_S, timed_after_s

VISITS: Final = 15  # undisturbed visits, and
ROUNDS: Final = 3  # at most so many rounds of them
MAX_WAITED: Final = 0.2  # of a visit: above, other programs had the processor, and its caches and memory too
STAGE_LAYERS: Final = 6  # of the larger visit; large enough for a difference, and a second on a slow processor
BUDGET_S: Final = 2.0
MIN_VISITS: Final = 5
WIRE: Final = torch.float16  # the format of activations on the wire


@dataclass(frozen=True, slots=True)
class _Visit:
    extra_s: float  # beyond the layers of the loop
    calm: bool


def time_visits(
    device: Device,
    layers: Sequence[DecoderLayer],
    dtype: torch.dtype,
    tokens: int,
    layer_s: float,
    preemption: PreemptionSource,
    away_s: float = MIN_AWAY_S,
    sleep: Callable[[float], None] = time.sleep,
    pressed_s: Callable[[], Sequence[float]] = tuple,
) -> dict[int, Timing]:
    """Seconds above `layer_s` a layer with `tokens` in the cache, never below zero, by layers of the stage. A size is
    missing where too few visits fit the time there is. `pressed_s`: how long work of anybody has waited for a processor
    so far, by each count that the system keeps. May raise torch's errors for memory."""
    drawn = Weights(1, dtype, device.torch_name)
    some = [(layer, layer.new_cache(1, tokens + 1, fill=drawn)) for layer in layers[:STAGE_LAYERS]]
    pause_s = timed_after_s(away_s)
    width = layers[0].shape.hidden
    packed = _to_bytes(drawn.matrix(1, width) * width**0.5)
    # an accelerator's kernels queue behind each other whatever their number, and it has no caches to lose
    sizes = sorted({1, len(some)}) if device.torch_name == "cpu" else [1]
    visits: dict[int, list[_Visit]] = {size: [] for size in sizes}
    ends = time.perf_counter() + BUDGET_S * len(sizes)
    with torch.inference_mode():
        for visit in range(VISITS * ROUNDS):
            for size in sizes:
                sleep(pause_s)
                stage = some[:size] if size > 1 else [some[visit % len(some)]]
                used, waited = preemption.used_s(), preemption.waited_s()
                before_preemptions, pressed = preemption.preemptions(), pressed_s()
                before = time.perf_counter()
                hidden = torch.frombuffer(bytearray(packed), dtype=WIRE).view(1, 1, width)
                hidden = hidden.to(device.torch_name).to(dtype)
                for layer, cache in stage:
                    hidden = layer.forward(hidden, cache, tokens)
                _to_bytes(hidden)
                after = time.perf_counter()
                waited_s = preemption.waited_s() - waited
                ran_s = max(after - before - waited_s, preemption.least_s(preemption.used_s() - used))
                others_s = max(waited_s, *(now - then for now, then in zip(pressed_s(), pressed, strict=False)), 0.0)
                calm = preemption.preemptions() == before_preemptions and others_s <= MAX_WAITED * (after - before)
                visits[size].append(_Visit(max(0.0, ran_s - size * layer_s), calm))
            calmest = min(sum(each.calm for each in of_size) for of_size in visits.values())
            if calmest >= VISITS or time.perf_counter() > ends:
                break
    timed = {size: _timing(of_size) for size, of_size in visits.items()}
    return {size: timing for size, timing in timed.items() if timing is not None}


def _timing(visits: Sequence[_Visit]) -> Timing | None:
    calm = sorted(visit.extra_s for visit in visits if visit.calm)
    ordered = calm if len(calm) >= MIN_VISITS else sorted(visit.extra_s for visit in visits)
    if len(ordered) < MIN_VISITS:
        return None
    disturbed = 0.0 if ordered is calm else 1.0 - len(calm) / len(visits)
    return Timing(median(ordered), quantile(ordered, 0.05), quantile(ordered, 0.95), len(ordered), True, disturbed)


def _to_bytes(hidden: torch.Tensor) -> bytes:
    """Wait for the device and copy, as sending an activation does."""
    return bytes(hidden.to(WIRE).cpu().contiguous().view(torch.uint8).numpy().tobytes())
