"""Measure how fast one device reads memory, multiplies matrices, and takes data from host and disk.

Bandwidth is the better of a copy and of a matrix-vector product, which is what decoding is. The disk is read past the
page cache, from the one large file that is sure to exist: torch's own library; nothing is written. Engines that offload
stream weights over these two ways (Sheng 2023, FlexGen).
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it

from swarm_probe.compute.devices import DTYPES, Device
from swarm_probe.compute.timing.convergence import repeat
from swarm_probe.operating_system.preemption import thread_preemption
from swarm_protocol.messages.samples import RooflineSample

COPY_TIMES: Final = 4  # the cache's size: a target kept there must not count as fast memory
MATVEC_COLUMNS: Final = 8192
TRANSFER_BYTES: Final = 64 << 20
DISK_BLOCK_BYTES: Final = 4 << 20
DISK_S: Final = 0.5  # a figure, not a load
MIN_DISK_BYTES: Final = 32 << 20  # below this the drive's own cache would be measured


def roofline(device: Device, dtype: str, budget_s: float) -> RooflineSample:
    """Return the rates. Raises TooSlow, and torch's own errors for memory."""
    size = min(max(COPY_TIMES * device.cache_bytes, 64 << 20), max(device.limit_bytes // 4, 1 << 20))
    copy = _copy_bytes_per_s(device, size, budget_s / 4)
    product = _matvec_bytes_per_s(device, DTYPES[dtype], size, budget_s / 4)
    flops = _matmul_flops(device, DTYPES[dtype], budget_s / 4)
    there, back = _transfers(device, budget_s / 4)
    return RooflineSample(
        at_ns=time.time_ns(),
        device=device.label,
        dtype=dtype,
        mem_gbps=max(copy, product) / 1e9,
        tflops=flops / 1e12,
        to_device_gbps=there,
        from_device_gbps=back,
        disk_gbps=disk_gbps(_large_file()),
    )


def _copy_bytes_per_s(device: Device, size: int, budget_s: float) -> float:
    source = torch.ones(size // 4, dtype=torch.float32, device=device.torch_name)
    target = torch.empty_like(source)
    return 2 * size / timed(device, lambda: target.copy_(source), budget_s)


def _matvec_bytes_per_s(device: Device, dtype: torch.dtype, size: int, budget_s: float) -> float:
    rows = max(1, size // (MATVEC_COLUMNS * dtype.itemsize))
    weight = torch.ones(rows, MATVEC_COLUMNS, dtype=dtype, device=device.torch_name)
    vector = torch.ones(1, MATVEC_COLUMNS, dtype=dtype, device=device.torch_name)
    return weight.numel() * dtype.itemsize / timed(device, lambda: F.linear(vector, weight), budget_s)


def _matmul_flops(device: Device, dtype: torch.dtype, budget_s: float) -> float:
    """Multiply random numbers: on zeros and ones a GPU draws less power and runs faster than it does at work."""
    side = 1024 if device.torch_name == "cpu" else 8192
    a = torch.randn(side, side, device=device.torch_name).to(dtype)
    return 2 * side**3 / timed(device, lambda: F.linear(a, a), budget_s)


def _transfers(device: Device, budget_s: float) -> tuple[float | None, float | None]:
    """Return (to the device, from it) in GB/s, through pinned memory; None if memory is shared."""
    if device.torch_name in ("cpu", "mps"):
        return None, None
    host = torch.empty(TRANSFER_BYTES, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(TRANSFER_BYTES, dtype=torch.uint8, device=device.torch_name)
    out_s = timed(device, lambda: there.copy_(host, non_blocking=True), budget_s / 2)
    back_s = timed(device, lambda: host.copy_(there, non_blocking=True), budget_s / 2)
    return TRANSFER_BYTES / out_s / 1e9, TRANSFER_BYTES / back_s / 1e9


def _large_file() -> Path | None:
    folder = Path(torch.__file__).parent / "lib"
    found = [path for path in folder.glob("*torch*") if path.is_file()]
    return max(found, key=lambda path: path.stat().st_size, default=None)


def disk_gbps(path: Path | None) -> float | None:
    """Read with O_DIRECT for a moment. None: no such file, too small, or a file system that always caches."""
    flags = getattr(os, "O_DIRECT", 0)
    if path is None or not flags:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError:
        return None
    read, began = 0, time.perf_counter()
    try:
        with mmap.mmap(-1, DISK_BLOCK_BYTES) as block:  # aligned, as O_DIRECT requires
            while (got := os.readv(handle, [block])) == DISK_BLOCK_BYTES and time.perf_counter() - began < DISK_S:
                read += got
            took_s = time.perf_counter() - began
    except OSError:
        return None
    finally:
        os.close(handle)
    return read / took_s / 1e9 if read >= MIN_DISK_BYTES else None


def timed(device: Device, act: Callable[[], object], budget_s: float) -> float:
    """Return the seconds of one `act`. Raises TooSlow."""
    with torch.inference_mode():
        return repeat(act, budget_s, time.perf_counter, thread_preemption(), device.wait).median_s
