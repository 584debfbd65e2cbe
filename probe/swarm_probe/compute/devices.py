"""Find the devices torch can use, how much of each may be taken, and the dtype that layers are timed in.

A guest takes at most half of what is free. The recorded dtype is the one really used: on many processors torch has no
fast fp16, and an engine would run bf16 or fp32 there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import torch

from swarm_probe.compute.layers.matrices import BITS, KERNEL_DTYPE, QUANTISED, NoKernel, Weights
from swarm_probe.machine.host import cpu_name
from swarm_protocol.units import BITS_PER_BYTE

DTYPES: Final = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
USUAL: Final = "fp16"  # stands in for weight formats that have no kernel here: int8, nf4, q4_k_m, …
FREE_SHARE: Final = 0.5
WORTH: Final = 1.5  # the requested dtype is kept unless another is this many times faster
PREFILL_WEIGHT: Final = 8  # so many tokens of a prompt count as one decoded
TRIALS: Final = 5
TRIAL_S: Final = 0.3  # a dtype this slow has lost already
CACHE_GUESS_BYTES: Final = 32 << 20  # if the device does not report it
TORCH_BYTES: Final = 300 << 20  # what torch itself takes of a process, before any tensor
_SIZE: Final = re.compile(r"(\d+)([KMG]?)")


class Device(msgspec.Struct, frozen=True):
    torch_name: str  # "cuda:0"
    label: str  # "NVIDIA H100 80GB HBM3", "cpu: AMD EPYC (2 threads)"
    limit_bytes: int  # the most that tensors may take
    cache_bytes: int  # last level
    wait: Callable[[], None]  # until the device has finished everything
    uuid: str = ""  # of NVML; empty: unknown to it


class Format(msgspec.Struct, frozen=True):
    """The format of a layer's weights while it is timed."""

    name: str  # as samples name it
    dtype: torch.dtype  # of activations, and of weights that are not quantised
    quantised: str = ""  # one of matrices.QUANTISED

    @property
    def weight_bytes(self) -> float:
        return BITS[self.quantised] / BITS_PER_BYTE if self.quantised else float(self.dtype.itemsize)


def devices(ram_limit_bytes: int) -> list[Device]:
    """Return all accelerators; without any, the processor."""
    if torch.cuda.is_available():
        return [_cuda(i) for i in range(torch.cuda.device_count())]
    room = max(0, ram_limit_bytes - TORCH_BYTES)
    if torch.backends.mps.is_available():
        return [Device("mps", f"Apple GPU: {cpu_name()}", room, CACHE_GUESS_BYTES, torch.mps.synchronize)]
    threads = torch.get_num_threads()
    level = torch.backends.cpu.get_cpu_capability()  # AVX2, AVX512, DEFAULT, …: which kernels torch takes
    words = [f"{threads} thread{'s' if threads != 1 else ''}"] + [level] * (level not in ("DEFAULT", "NO AVX"))
    label = f"cpu: {cpu_name()} ({', '.join(words)})"
    return [Device("cpu", label, room, cpu_cache_bytes(), lambda: None)]


def _cuda(index: int) -> Device:
    name = f"cuda:{index}"
    free, total = torch.cuda.mem_get_info(index)
    limit = int(free * FREE_SHARE)
    torch.cuda.set_per_process_memory_fraction(max(limit, 1) / total, index)
    properties = torch.cuda.get_device_properties(index)
    label = properties.name if torch.cuda.device_count() == 1 else f"{properties.name} #{index}"
    cache = getattr(properties, "L2_cache_size", 0) or CACHE_GUESS_BYTES
    uuid = f"GPU-{properties.uuid}" if hasattr(properties, "uuid") else ""
    return Device(name, label, limit, cache, lambda: torch.cuda.synchronize(index), uuid)


def cpu_cache_bytes(folder: Path = Path("/sys/devices/system/cpu")) -> int:
    """Return the size of all last-level caches together."""
    found: dict[str, tuple[int, int]] = {}  # who shares it → level, size
    for cache in folder.glob("cpu[0-9]*/cache/index*"):
        try:
            level = int((cache / "level").read_text())
            size = _SIZE.match((cache / "size").read_text().strip())
            shared = (cache / "shared_cpu_list").read_text().strip()
        except (OSError, ValueError):
            continue
        if size is not None and level >= found.get(shared, (0, 0))[0]:
            found[shared] = level, int(size[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[size[2]]
    last = max((level for level, _ in found.values()), default=0)
    return sum(size for level, size in found.values() if level == last) or CACHE_GUESS_BYTES


def choose_format(device: Device, asked: str) -> Format:
    """Return the requested format if it has a kernel here no slower than the plain one, else the plain one an engine
    would use. (torch has kernels for some devices that exist only for completeness: ten times slower.)"""
    plain = choose_dtype(device, asked)
    if asked in QUANTISED and (asked != "nf4" or device.torch_name.startswith("cuda")):
        dtype = KERNEL_DTYPE[asked]
        try:
            Weights(1, dtype, device.torch_name, asked).linear(256, 256)(
                torch.ones(1, 256, dtype=dtype, device=device.torch_name)
            )
            # bitsandbytes is what engines run for nf4, fast or not
            if asked == "nf4" or _trial_s(device, dtype, asked) <= _trial_s(device, DTYPES[plain], ""):
                return Format(asked, dtype, asked)
        except (NoKernel, RuntimeError):  # RuntimeError: it packs, and then cannot multiply
            pass
    return Format(plain, DTYPES[plain])


def choose_dtype(device: Device, asked: str) -> str:
    """Return the key of DTYPES to time with."""
    wanted = asked if asked in DTYPES else USUAL
    if device.torch_name.startswith("cuda"):
        return "fp16" if wanted == "bf16" and not torch.cuda.is_bf16_supported() else wanted
    if device.torch_name != "cpu":
        return wanted
    others = {"fp16": ("bf16", "fp32"), "bf16": ("fp32",), "fp32": ()}[wanted]  # never a smaller one than requested
    if not others:
        return wanted
    costs = {name: _trial_s(device, DTYPES[name], "") for name in (wanted, *others)}
    best = min(costs, key=lambda name: costs[name])
    return wanted if costs[wanted] <= WORTH * costs[best] else best


def _trial_s(device: Device, dtype: torch.dtype, quantised: str) -> float:
    """Time a decode step and, on a processor, a small prefill with it; the fastest of a few. Both count: some
    processors decode in fp16 as fast as in bf16 and take ten times as long for a prompt. The matrix is large enough
    that reading it takes most of the time."""
    rows = 4096 if device.torch_name == "cpu" else 32768
    weight = Weights(1, dtype, device.torch_name, quantised).linear(rows, 8192)
    one, many = (torch.ones(n, 8192, dtype=dtype, device=device.torch_name) for n in (1, 32))
    prefill_weight = 0 if quantised or device.torch_name != "cpu" else 1 / PREFILL_WEIGHT
    costs: list[float] = []
    with torch.inference_mode():
        weight(one)
        device.wait()
        while len(costs) < TRIALS and max(costs, default=0.0) < TRIAL_S:
            start = time.perf_counter()
            weight(one)
            device.wait()
            middle = time.perf_counter()
            if prefill_weight:
                weight(many)
            costs.append((middle - start) + (time.perf_counter() - middle) * prefill_weight)
    return min(costs)
