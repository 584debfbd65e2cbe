"""Look up the GPUs of one machine by name, and combine them for a node that runs its layers on one after another.

    "RTX 4090"    "2x RTX 3060"    "RTX 3090 + RTX A4000"    "2× RTX 3090 + A4000"    "two 3090s"

Memory adds up. A node with several GPUs keeps part of its layers on each and computes them one after another, in
proportion to their memory (the default split of llama.cpp). So a layer takes the mean of the GPUs' times, weighted by
memory: not the time of the slowest, and not half of one's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from swarm_protocol.devices.data_sheets import Device, DeviceClass
from swarm_protocol.devices.names import find, nearest

MAX_CARDS: Final = 64
COUNTS: Final = {
    "a": 1,
    "an": 1,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
}
_COUNTED: Final = re.compile(r"^(\d{1,2})\s*[x×*]\s*(\S.*)$", re.IGNORECASE)
# glued to a number alone: "h100x8" is eight, but "max 64" has an x of its own
_TRAILING: Final = re.compile(r"^(.*\S\s+|.*\d)[x×*]\s*(\d{1,2})$", re.IGNORECASE)


_PLUS: Final = re.compile(r"\s+\+\s*|(?<=\w)\+(?=\w)")  # "MAX+ 395" is one name


class UnknownDevice(ValueError):
    """No data sheet of that name; the line names the nearest ones and what to write instead."""


class Machine(msgspec.Struct, frozen=True):
    """The combined figures of a machine's GPUs. None: depends on something that the name does not say."""

    name: str  # "2× GeForce RTX 3060"
    cards: int
    vram_gib: float | None  # available to layers
    mem_gbps: float  # of a layer, wherever it lies: the mean of the GPUs' times, weighted by their memory
    tflops: float | None
    device_class: DeviceClass
    unified: bool


def parts_of(text: str) -> list[str]:
    """Return one name for each GPU that `text` names. Raises UnknownDevice for more GPUs than a machine has."""
    found: list[str] = []
    for part in _PLUS.split(text.strip()):
        match = _COUNTED.match(part) or _TRAILING.match(part)
        if match is None:
            found += _counted_in_words(part.strip())
            continue
        count, name = (match[1], match[2]) if match.re is _COUNTED else (match[2], match[1])
        if not 1 <= int(count) <= MAX_CARDS:
            raise UnknownDevice(f"{count} cards in one machine; 1 to {MAX_CARDS} are possible")
        found += [_singular(name.strip())] * int(count)
    if len(found) > MAX_CARDS:
        raise UnknownDevice(f"{len(found)} cards in one machine; 1 to {MAX_CARDS} are possible")
    return found


def _counted_in_words(text: str) -> list[str]:
    """Return `two 3090s` and `2 3090s` as two names, and what has no count in front of a known name as it is."""
    head, _, rest = text.partition(" ")
    count = COUNTS.get(head.lower(), int(head) if re.fullmatch(r"[1-9]\d?", head) else 0)
    if count and find(text) is None and find(name := _singular(rest.strip())) is not None:
        return [name] * count
    return [_singular(text)]


def _singular(name: str) -> str:
    less = name[:-1]
    return less if name[-1:] in "sS" and less and find(name) is None and find(less) is not None else name


def machine_of(text: str, count: int = 1) -> Machine:
    """Return the machine whose GPUs `text` names, each `count` times. Raises UnknownDevice."""
    devices = []
    for name in _names(text):
        device = find(name)
        if device is None:
            near = nearest(name)
            hint = f"the nearest names are {', '.join(near)}; or " if near else ""
            raise UnknownDevice(f"no data sheet of {name!r}: {hint}write vram_gib, mem_gbps and tflops yourself")
        devices.append(device)
    return combined(devices * count)


def known_machine(text: str, count: int = 1) -> Machine | None:
    """Return `machine_of`; None if a GPU is not in the table."""
    try:
        devices = [find(name) for name in _names(text)]
    except UnknownDevice:
        return None
    known = [device for device in devices if device is not None]
    return combined(known * count) if known and len(known) == len(devices) else None


def _names(text: str) -> list[str]:
    """Return one name for each GPU; "RYZEN AI MAX+ 395" has a plus of its own."""
    return [text] if find(text) is not None else parts_of(text)


@functools.lru_cache(maxsize=1024)
def machine_with(names: tuple[str, ...], memory_gib: tuple[float | None, ...]) -> Machine | None:
    """Return the machine whose driver prints these names and memories; None: at least one is not in the table."""
    devices = [find(name, memory) for name, memory in zip(names, memory_gib, strict=True)]
    known = [device for device in devices if device is not None]
    return combined(known) if known and len(known) == len(devices) else None


def combined(devices: Sequence[Device], memory_gib: Sequence[float] | None = None) -> Machine:
    """Combine devices. `memory_gib`: what layers may use of each now; by their data sheets where it is not given."""
    counts = {device.name: devices.count(device) for device in devices}
    layers: Sequence[float | None] = memory_gib or [device.layers_gib() for device in devices]
    gib = [each for each in layers if each is not None]
    known = len(gib) == len(devices)
    weights = gib if known else [1.0] * len(devices)
    rates = [device.tflops for device in devices]
    largest = max(range(len(devices)), key=lambda k: weights[k])
    return Machine(
        name=" + ".join(f"{count}× {name}" if count > 1 else name for name, count in counts.items()),
        cards=len(devices),
        vram_gib=sum(gib) if known else None,
        mem_gbps=mean_rate([device.mem_gbps for device in devices], weights),
        tflops=mean_rate([rate for rate in rates if rate is not None], weights) if None not in rates else None,
        device_class=devices[largest].device_class,
        unified=any(device.unified for device in devices),
    )


def mean_rate(rates: Sequence[float], weights: Sequence[float]) -> float:
    """Return the rate at which a piece of work takes the mean of the times at `rates`."""
    if len(set(rates)) == 1:
        return rates[0]
    return sum(weights) / sum(weight / rate for weight, rate in zip(weights, rates, strict=True))
