"""Determine the time of the LM head where it was not measured: at the pace of the layers, or by the roofline."""

from __future__ import annotations

from typing import Final

import numpy as np

from swarm_predict.cost.machine.roofline import Work, least_ms
from swarm_protocol.layer_shape import Phase
from swarm_protocol.snapshot.swarm import Floats

# of a computer of which nothing is known, for an LM head that runs there: two channels of DDR4-3200, and the AVX2 units
# of eight cores; desktops and laptops in use have 38 to 90 GB/s
ORDINARY_MEM_GBPS: Final = 51.0
ORDINARY_TFLOPS: Final = 0.5
Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


def head_ms(
    head: Work, step: Work, layer_ms: Floats, measured: Mask, ordinary: Mask,
    mem: Floats, tflops: Floats, phase: Phase, rate: Floats,
) -> Floats:  # fmt: skip
    """Return the LM head's time at the pace of the measured layers, by bytes or by operations; without any, by the
    roofline of the machine, or of an ordinary computer where that is not known either."""
    mem, tflops = np.where(ordinary, ORDINARY_MEM_GBPS, mem), np.where(ordinary, ORDINARY_TFLOPS, tflops)
    alone = least_ms(head, mem, tflops, "decode")
    if phase == "prefill":
        return alone  # of one token: measured more precisely as a decode step
    with np.errstate(invalid="ignore"):  # inf / inf, if there is no roofline
        ratio = alone / least_ms(step, mem, tflops, "decode")
    ratio = np.where(np.isfinite(ratio), ratio, head.size_bytes / step.size_bytes)
    return np.where(measured, layer_ms * ratio, alone * rate)
