"""Detect the hardware of this machine for a swarm file: GPUs with their free memory, else its chip or processor.

It runs the vendors' own tools and reads the system, each for a few seconds at most; missing tools are normal.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_protocol.devices.names import find
from swarm_protocol.text import clean_name
from swarm_protocol.units import BYTES_PER_GIB
from swarmtop.imports.detect_format import decoded
from swarmtop.imports.findings import ImportProblem, NodeFound

WAIT_S: Final = 15.0  # nvidia-smi wakes a sleeping GPU
RAM_SHARE: Final = 0.5  # of a machine without a known GPU, as swarm_protocol.snapshot.nodes.node_figures counts
TOOLS: Final[tuple[tuple[str, ...], ...]] = (
    ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv"),
    ("amd-smi", "static", "--asic", "--vram", "--json"),
    ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json"),
)
Ask = Callable[[Sequence[str]], bytes | None]


@dataclass(frozen=True, slots=True)
class Detected:
    node: NodeFound
    said: str  # one line: the source


def detect(ask: Ask | None = None, root: Path = Path("/")) -> Detected:
    """Detect the machine. `ask` runs a command and returns its output, None if it is missing; `root` holds proc."""
    ask = ask or output_of
    name = clean_name(platform.node().split(".")[0] or "this-machine")
    for command in TOOLS:
        data = ask(command)
        if not data:
            continue
        from swarmtop.imports import gpu_monitors  # reads the table of devices

        try:
            found = gpu_monitors.read(decoded(data), name)
        except ImportProblem:  # a driver without a GPU prints a line of its own
            continue
        return Detected(found.nodes[0], f"{command[0]} names {found.nodes[0].device}")
    ram_gib = _ram_gib()
    chip = _chip(ask, root)
    device = find(chip, ram_gib)
    if device is None:
        return Detected(NodeFound(name, device=chip, vram_gib=ram_gib * RAM_SHARE), f"no GPU was found; {chip}")
    usable = device.layers_gib(ram_gib)
    return Detected(
        NodeFound(name, device=chip, vram_gib=usable, mem_gbps=device.mem_gbps, tflops=device.tflops),
        f"{chip} with {ram_gib:.0f} GiB of memory",
    )


def output_of(command: Sequence[str]) -> bytes | None:
    try:
        asked = subprocess.run(list(command), capture_output=True, timeout=WAIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout if asked.returncode == 0 else None


def _ram_gib() -> float:
    import psutil

    return float(psutil.virtual_memory().total) / BYTES_PER_GIB


def _chip(ask: Ask, root: Path) -> str:
    """Return a name such as "Apple M2 Max", "Raspberry Pi 5 Model B Rev 1.0" or "AMD EPYC 7763 64-Core Processor"."""
    if sys.platform == "darwin":
        brand = ask(("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"))
        return brand.decode(errors="replace").strip() if brand else platform.machine()
    for path, pattern in (
        ("proc/device-tree/model", r"\s*([^\0\n]+)"),
        ("proc/cpuinfo", r"(?m)^(?:model name|Model)\s*:\s*(.+)$"),
    ):
        try:
            found = re.search(pattern, (root / path).read_text(errors="replace"))
        except OSError:
            continue
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine() or "unknown"
