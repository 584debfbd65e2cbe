"""Read an Intel card as its driver shows it in sysfs: i915, or xe of newer kernels.

Layout: the kernel's `Documentation/ABI/testing/sysfs-driver-intel-*-hwmon`, `intel_gt_sysfs_pm.c`, `xe_gt_freq.c`,
`xe_gt_throttle.c`. Neither driver has a file for power: both count energy, and the power is its growth between two
readings. Neither has one for load: it is counted for each process, and only root sees those of others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from swarm_probe.machine.gpu import GpuReading
from swarm_probe.operating_system.sysfs import first_number, labelled, number, scaled, sensors, text

MIN_BYTES: Final = 1 << 30  # a smaller window does not map all of a card's memory
CARDS: Final = {
    0x56A0: "Intel Arc A770", 0x56A1: "Intel Arc A750", 0x56A2: "Intel Arc A580", 0x56A5: "Intel Arc A380",
    0x56A6: "Intel Arc A310", 0x5690: "Intel Arc A770M", 0x5691: "Intel Arc A730M", 0x5692: "Intel Arc A550M",
    0x5693: "Intel Arc A370M", 0xE20B: "Intel Arc B580", 0xE20C: "Intel Arc B570", 0xE211: "Intel Arc Pro B60",
    0xE212: "Intel Arc Pro B50", 0x0BD5: "Intel Data Center GPU Max 1550", 0x0BDA: "Intel Data Center GPU Max 1100",
    0x56C0: "Intel Data Center GPU Flex 170", 0x56C1: "Intel Data Center GPU Flex 140",
}  # fmt: skip
# What ends the name of a reason's file. Limits of power and current are normal; the others hold the clock below them.
_REASONS: Final = {
    "pl1": "power limit", "pl2": "power limit", "pl4": "power limit", "vr_tdc": "current limit",
    "thermal": "heat (software)", "ratl": "heat (software)", "vr_thermalert": "heat (hardware)",
    "prochot": "heat (hardware)",
}  # fmt: skip
_HELD_BACK: Final = {"heat (software)", "heat (hardware)"}


class EnergyMeter:
    """Turns counters of energy into power: each reading against the one before."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._before: dict[Path, tuple[float, int]] = {}  # when and how much, in microjoules

    def power_w(self, counter: Path) -> float | None:
        """Return the mean power since the last call, in watts; None at the first, and when the counter began again."""
        now_s, energy_uj = self._clock_s(), number(counter)
        if energy_uj is None:
            return None
        before = self._before.get(counter)
        self._before[counter] = now_s, energy_uj
        if before is None or now_s <= before[0] or energy_uj < before[1]:
            return None
        return (energy_uj - before[1]) / 1e6 / (now_s - before[0])


def read(device: Path, meter: EnergyMeter) -> GpuReading | None:
    """Return the card's reading; None for a GPU that is none of `CARDS`. `device` is card*/device."""
    name = CARDS.get(number(device / "device") or 0)
    if name is None:
        return None
    card, tile = device.parent, device / "tile0"
    driver = "xe" if tile.is_dir() else "i915"
    hwmon = sensors(device, driver)
    total = first_number(card / "lmem_total_bytes", tile / "physical_vram_size_bytes")
    if total is not None and driver == "xe":  # a card of two tiles has the memory of both
        total = sum(number(path) or 0 for path in device.glob("tile*/physical_vram_size_bytes"))
    reasons = _throttle_reasons(card / "gt/gt0", tile / "gt0/freq0/throttle")
    clock = first_number(card / "gt/gt0/rps_act_freq_mhz", card / "gt_act_freq_mhz", tile / "gt0/freq0/act_freq")
    energy = next((path for k in (1, 2) if (path := hwmon / f"energy{k}_input").exists()), hwmon / "energy1_input")
    reading = GpuReading(
        name=name,
        util_percent=None,
        vram_free_bytes=number(card / "lmem_avail_bytes"),
        vram_total_bytes=total or _window_bytes(device / "resource"),
        temp_c=scaled(_temperature(hwmon), 1e3),
        power_w=meter.power_w(energy),
        throttled=None if reasons is None else bool(reasons & _HELD_BACK),
        throttle=None if reasons is None else ", ".join(sorted(reasons)),
        sm_clock_mhz=None if clock is None else float(clock),
        power_limit_w=scaled(number(hwmon / "power1_max") or number(hwmon / "power2_max") or None, 1e6),  # 0: none
    )
    shown = f"its driver ({driver}) does not show it"
    counted = "Intel's drivers count it for each process"
    return reading.explained(shown, load=counted, memory=counted, power=None if energy.exists() else shown)


def _temperature(hwmon: Path) -> int | None:
    """Return the package's temperature: i915 has one sensor, xe has one for the memory too."""
    found = labelled(hwmon, "temp", "pkg")
    return found if found is not None else first_number(*(hwmon / f"temp{k}_input" for k in (1, 2)))


def _throttle_reasons(i915: Path, xe: Path) -> set[str] | None:
    """Return the reasons that hold now, in words; None if the driver has no files for them."""
    for prefix in (i915 / "throttle_reason_", xe / "reason_"):
        files = {end: number(prefix.with_name(prefix.name + end)) for end in _REASONS}
        if any(value is not None for value in files.values()):
            return {_REASONS[end] for end, value in files.items() if value}
    return None


def _window_bytes(resource: Path) -> int | None:
    """Return the GPU's memory, where its third window (BAR 2) maps all of it; None if it is too small to be that."""
    try:
        begin, end, *_ = text(resource).splitlines()[2].split()
        size = int(end, 16) - int(begin, 16) + 1
    except (IndexError, ValueError):
        return None
    return size if size >= MIN_BYTES else None
