"""Combine a node's facts and readings into one device name, one memory, one set of figures for all its GPUs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from swarm_protocol.messages.probe_messages import HostFacts
from swarm_protocol.messages.samples import HostSample, NatKind
from swarm_protocol.snapshot.swarm import Card, Congestion, LayerTime, Nat, NodeFacts, Tcp, Way
from swarm_protocol.units import BYTES_PER_GIB

if TYPE_CHECKING:  # the table of devices is read for the first machine with a GPU
    from swarm_protocol.devices.machines import Machine

RAM_SHARE: Final = 0.5  # of a machine without a GPU: the system, the engine and its owner use the other half

_NATS: Final[dict[NatKind, Nat]] = {
    "none": Nat.NONE,
    "endpoint-independent": Nat.ENDPOINT_INDEPENDENT,
    "symmetric": Nat.SYMMETRIC,
    "udp-blocked": Nat.UDP_BLOCKED,
}


def memory_bytes(facts: HostFacts) -> float:
    """Return what layers may use, before the first reading. NaN: unknown, since a GPU or the machine does not say how
    much it has (0 in its facts)."""
    if facts.offer_bytes is not None:
        return float(facts.offer_bytes)
    if not facts.gpus:
        return facts.ram_bytes * RAM_SHARE if facts.ram_bytes else math.nan
    if all(gpu.vram_bytes for gpu in facts.gpus):
        return float(sum(gpu.vram_bytes for gpu in facts.gpus))
    machine = sheet_of(facts)  # its driver does not report it (GB10, Apple, Intel): the data sheet may
    return math.nan if machine is None or machine.vram_gib is None else machine.vram_gib * BYTES_PER_GIB


def shares_memory(facts: HostFacts) -> bool:
    """Return whether its GPU uses the machine's memory (GB10, Jetson): known by the name."""
    if len(facts.gpus) != 1 or facts.gpus[0].vram_bytes:
        return False
    machine = sheet_of(facts)
    return machine is not None and machine.unified


def sheet_of(facts: HostFacts | None) -> Machine | None:
    """Return the data sheet of this machine's GPUs, else of its chip. None: one of them is not known."""
    if facts is None:
        return None
    from swarm_protocol.devices.machines import machine_with

    ram_gib = facts.ram_bytes / BYTES_PER_GIB
    if facts.gpus:
        sizes = tuple(gpu.vram_bytes / BYTES_PER_GIB or None for gpu in facts.gpus)
        alone = len(facts.gpus) == 1 and sizes[0] is None
        return machine_with(tuple(gpu.name for gpu in facts.gpus), (ram_gib,) if alone else sizes)
    # a cloud's processor is shared: its name says nothing about one machine's part
    machine = machine_with((facts.cpu,), (ram_gib,)) if facts.cpu else None
    return machine if machine is not None and machine.device_class in ("apple", "apu", "board") else None


def card_shares(facts: HostFacts | None, timed: Iterable[str]) -> dict[str, float]:
    """Return, of the timed devices, those that are this machine's GPUs, each with its share of their memory.

    Empty with fewer than two: layers then take the time of whatever was timed last."""
    if facts is None or len(facts.gpus) < 2:
        return {}
    held = {gpu.name: float(gpu.vram_bytes) for gpu in facts.gpus}
    cards = [device for device in dict.fromkeys(timed) if held.get(device)]
    total = sum(held[device] for device in cards)
    return {device: held[device] / total for device in cards} if len(cards) > 1 else {}


def over_cards(times: list[tuple[float, LayerTime]]) -> LayerTime:
    """Return one layer's time on a machine that keeps a share of its layers on each GPU: the mean of the GPUs'
    times."""
    newest = max((time for _, time in times), key=lambda time: time.at_ns)
    return replace(
        newest,
        ms=sum(share * time.ms for share, time in times),
        ms_p95=sum(share * time.ms_p95 for share, time in times),
        n=min(time.n for _, time in times),
        verified=all(time.verified for _, time in times),
        marks=",".join(sorted({mark for _, time in times for mark in time.marks.split(",") if mark})),
    )


def shown_device(facts: HostFacts | None, timed: str) -> str:
    """Return the machine's device. A GPU that only torch sees gives the name: such a node is no processor."""
    if facts is not None and not facts.gpus and timed and not timed.startswith("cpu:"):
        return timed
    return device_of(facts) or timed


def class_of(facts: HostFacts | None) -> str:
    """Return the device class of a machine; of one without a known GPU, that of its processor."""
    machine = sheet_of(facts)
    if machine is not None or facts is None:
        return machine.device_class if machine is not None else ""
    if facts.gpus:
        return ""
    words = f"{facts.system} {facts.cpu}".lower()
    if any(word in words for word in ("aarch64", "arm64", "neoverse")):
        return "arm"
    return "x86" if "x86_64" in words or "amd64" in words else ""


def host_figures(samples: Sequence[HostSample], facts: HostFacts | None) -> dict[str, float | None]:
    """Return node columns from one reading: memory and power are sums over the GPUs, utilisation is their mean,
    temperature the highest."""
    newest = samples[-1]
    gpus = [sample for sample in samples if sample.gpu is not None]
    total, free = _memory_now(gpus, newest, facts)
    used = [gpu.gpu_util_percent for gpu in gpus]
    return {
        "cpu_percent": newest.cpu_percent,
        "ram_free_bytes": _float(newest.ram_free_bytes),
        "vram_bytes": total,
        "vram_free_bytes": free,
        "gpu_util_percent": _over(lambda values: sum(values) / len(values), used),
        "temp_c": _over(max, [sample.temp_c for sample in samples]),
        "power_w": _over(sum, [sample.power_w for sample in samples]),
        "clock_mhz": _over(min, [sample.clock_mhz for sample in gpus]),
        "throttled": _over(max, [sample.throttled for sample in samples]),
        "nat": float(_NATS[newest.nat] if newest.nat is not None else Nat.UNKNOWN),
        "collector_rtt_ms": newest.collector_rtt_ms,
        "tcp": float(tcp_of(newest)),
        "congestion": float(congestion_of(newest.tcp)),
        "cpu_pressure_percent": newest.cpu_pressure_percent,
    }


def tcp_of(sample: HostSample) -> Tcp:
    """Return what TCP does to an idle connection. BBR and its versions control the rate themselves, and Linux does not
    restart them (tcp.h, tcp_slow_start_after_idle_check)."""
    if sample.tcp is None or sample.tcp_slow_start_after_idle is None:
        return Tcp.UNKNOWN
    if sample.tcp.startswith("bbr"):
        return Tcp.PACES
    return Tcp.SHRINKS if sample.tcp_slow_start_after_idle else Tcp.KEEPS


def congestion_of(name: str | None) -> Congestion:
    if name is None:
        return Congestion.UNKNOWN
    known = {"cubic": Congestion.CUBIC, "reno": Congestion.RENO, "newreno": Congestion.RENO}
    return Congestion.BBR if name.startswith("bbr") else known.get(name, Congestion.OTHER)


def cards_of(samples: Sequence[HostSample]) -> tuple[Card, ...]:
    """Return each card of one reading; empty unless there are several."""
    found = tuple(
        Card(
            gpu.gpu, gpu.gpu_util_percent, _float(gpu.vram_free_bytes), _float(gpu.vram_total_bytes), gpu.temp_c,
            gpu.power_w, gpu.clock_mhz, gpu.throttle or "",
        )
        for gpu in samples
        if gpu.gpu is not None
    )  # fmt: skip
    return found if len(found) > 1 else ()


def device_of(facts: HostFacts | None) -> str:
    """Return a name such as `2× RTX 3090` or `cpu: AMD EPYC`; empty: unknown."""
    if facts is None:
        return ""
    if shares_memory(facts):
        return f"{facts.gpus[0].name} (unified memory)"
    return named([gpu.name for gpu in facts.gpus]) or (f"cpu: {facts.cpu}" if facts.cpu else "")


def named(gpus: Sequence[str]) -> str:
    """Return a name such as `2× RTX 3090 + A4000`."""
    counts = {name: gpus.count(name) for name in gpus}
    return " + ".join(f"{count}× {name}" if count > 1 else name for name, count in counts.items())


def _memory_now(
    gpus: Sequence[HostSample], newest: HostSample, facts: HostFacts | None
) -> tuple[float | None, float | None]:
    """Return (total, free) for layers. Without a GPU: RAM_SHARE of the RAM, and of that what is free now."""
    if facts is not None and facts.offer_bytes is not None:
        free = (
            _over(sum, [gpu.vram_free_bytes for gpu in gpus]) if gpus or facts.gpus else _float(newest.ram_free_bytes)
        )
        return float(facts.offer_bytes), min(free, float(facts.offer_bytes)) if free is not None else None
    if gpus:
        total = _over(sum, [gpu.vram_total_bytes for gpu in gpus])
        free = _over(sum, [gpu.vram_free_bytes for gpu in gpus])
        if total is None and facts is not None:
            total = memory_bytes(facts)
            if shares_memory(facts):
                free = None if newest.ram_free_bytes is None else min(total, float(newest.ram_free_bytes))
        return total, free
    if facts is not None and facts.gpus:  # the driver did not answer: the GPUs are still there
        return memory_bytes(facts), None
    if newest.ram_total_bytes is None:  # this reading lacks it, the facts may have it
        return (memory_bytes(facts) if facts is not None else None), None
    total = newest.ram_total_bytes * RAM_SHARE
    return total, min(total, float(newest.ram_free_bytes)) if newest.ram_free_bytes is not None else None


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)


def _over(reduce: Any, values: list[Any]) -> float | None:
    """Return None as soon as one is not known: a part of a sum would be a wrong number."""
    return float(reduce(values)) if values and None not in values else None


def shown_facts(
    node_id: str, name: str, host: str, facts: HostFacts | None, device: str, note: str,
    layers: tuple[LayerTime, ...], *, timed: bool, cards: tuple[Card, ...] = (), ways: tuple[Way, ...] = (),
) -> NodeFacts:  # fmt: skip
    """Return the facts to show. `device`: as samples name it. `timed`: no data sheet is needed."""
    machine = None if timed else sheet_of(facts)
    if not note and not layers and facts is not None and facts.torch is None:
        note = "torch not installed: pip install 'swarmtop[torch]'"
    return NodeFacts(
        node_id=node_id,
        name=name,
        device=shown_device(facts, device),
        system=facts.system if facts is not None else "",
        host=host,
        note=note,
        layers=layers,
        device_class=class_of(facts),
        cards=cards,
        sheet=machine.name if machine is not None else "",
        ways=ways,
        untold="; ".join(dict.fromkeys(gpu.untold for gpu in facts.gpus if gpu.untold)) if facts is not None else "",
    )
