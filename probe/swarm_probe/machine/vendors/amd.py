"""Read an AMD card as the amdgpu driver shows it in sysfs.

Layout: the kernel's `Documentation/gpu/amdgpu/driver-misc.rst` and `thermal.rst`. Instinct cards have no edge sensor
and no `power1_average`; which figure is where depends on the card and the kernel. The reasons for a lower clock are in
`gpu_metrics`, a C structure with a version (`kgd_pp_interface.h`); only its version 1.3 has them in bits that mean the
same on every card.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Final

from swarm_probe.machine.gpu import GpuReading
from swarm_probe.operating_system.sysfs import first_number, labelled, number, scaled, sensors, text

MIN_BYTES: Final = 1 << 30  # a smaller memory is a window, or belongs to a GPU that no layer runs on
AMDGPU_IDS: Final = ("usr/share/libdrm/amdgpu.ids", "opt/amdgpu/share/libdrm/amdgpu.ids")
# Integrated, of Renoir to Strix Point and Krackan: their memory is the processor's, and torch hardly runs on them.
INTEGRATED: Final = frozenset({
    0x15D8, 0x15DD, 0x1636, 0x1638, 0x163F, 0x164C, 0x164D, 0x164E, 0x1681, 0x1506, 0x15BF, 0x15C8, 0x1900, 0x1901,
    0x150E, 0x1114, 0x13C0, 0x15E7,
})  # fmt: skip
UNIFIED: Final = {0x1586: "AMD Radeon 8060S Graphics"}

_METRICS_1_3: Final = (120, 1, 3)  # bytes, format and content version of `struct gpu_metrics_v1_3`
_THROTTLE_AT: Final = 112  # its `indep_throttle_status`
# `amdgpu_smu.h`: the limits of power and current are normal; what is too hot holds the clock below them.
_REASONS: Final = (
    (0x0000_0000_0000_00FF, "power limit"),
    (0x0000_0000_00FF_0000, "current limit"),
    (0x0000_0FFF_0000_0000, "heat (software)"),
    (0x0000_F000_0000_0000, "heat (hardware)"),
)
_HELD_BACK: Final = 0x0000_FFFF_0000_0000
_UNKNOWN: Final = (1 << 64) - 1  # all ones, as in every field that the firmware does not fill


def read(device: Path, root: Path) -> GpuReading | None:
    """Return the card's reading; None for a GPU that no layer runs on. `root` holds usr."""
    model = number(device / "device")
    if model is None or model in INTEGRATED:
        return None
    total, used = number(device / "mem_info_vram_total"), number(device / "mem_info_vram_used")
    unified = UNIFIED.get(model)
    if unified is None and (total is None or total < MIN_BYTES):
        return None
    free = max(0, total - used) if total is not None and used is not None else None
    name = unified or text(device / "product_name") or _marketing_name(root, model, number(device / "revision"))
    hwmon = sensors(device, "amdgpu")
    util = number(device / "gpu_busy_percent")
    reasons = _throttle_reasons(device / "gpu_metrics")
    reading = GpuReading(
        name=name or f"AMD GPU {model:04x}",
        util_percent=None if util is None else float(min(100, max(0, util))),
        vram_free_bytes=None if unified else free,
        vram_total_bytes=None if unified else total,
        temp_c=scaled(_temperature(hwmon), 1e3),
        power_w=scaled(first_number(hwmon / "power1_average", hwmon / "power1_input"), 1e6),
        throttled=None if reasons is None else bool(reasons & _HELD_BACK),
        throttle=None if reasons is None else ", ".join(words for bits, words in _REASONS if reasons & bits),
        sm_clock_mhz=_clock_mhz(hwmon, "sclk", device / "pp_dpm_sclk"),
        mem_clock_mhz=_clock_mhz(hwmon, "mclk", device / "pp_dpm_mclk"),
        power_limit_w=scaled(number(hwmon / "power1_cap"), 1e6),
        uuid=text(device / "unique_id"),
    )
    return reading.explained("its driver (amdgpu) does not show it")


def _temperature(hwmon: Path) -> int | None:
    found = labelled(hwmon, "temp", "edge", "junction", "mem")  # an Instinct has no edge
    return found if found is not None else number(hwmon / "temp1_input")


def _clock_mhz(hwmon: Path, label: str, levels: Path) -> float | None:
    """Return a clock: of its sensor (Hz), else of the table of levels, where a star marks the present one."""
    clock = scaled(labelled(hwmon, "freq", label), 1e6)
    if clock is not None:
        return clock
    marked = re.search(r"(\d+)Mhz \*", text(levels), re.IGNORECASE)
    return float(marked[1]) if marked is not None else None


def _throttle_reasons(path: Path) -> int | None:
    try:
        metrics = path.read_bytes()
    except OSError:
        return None
    if len(metrics) < _METRICS_1_3[0] or struct.unpack_from("<HBB", metrics) != _METRICS_1_3:
        return None
    (reasons,) = struct.unpack_from("<Q", metrics, _THROTTLE_AT)
    return None if reasons == _UNKNOWN else int(reasons)


def _marketing_name(root: Path, model: int, revision: int | None) -> str:
    """Return the name from libdrm's table: `744C, C8, AMD Radeon RX 7900 XTX`."""
    wanted = f"{model:04X}", f"{revision or 0:02X}"
    for path in AMDGPU_IDS:
        for line in text(root / path).splitlines():
            parts = [part.strip() for part in line.split(",", 2)]
            if len(parts) == 3 and (parts[0].upper(), parts[1].upper()) == wanted:
                return parts[2]
    return ""
