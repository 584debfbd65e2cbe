"""Import machines and their GPUs from GPU monitors: names, memory, and data-sheet values.

Layers may use what is free where that is stated, else the whole memory. A data sheet's bandwidth is the maximum; layers
reach some four fifths of it, so a measured layer time is better. Several GPUs of one machine run their layers one after
another: its bandwidth is that whose time is the mean of theirs, weighted by memory.
"""

from __future__ import annotations

import json
from typing import Final

from swarm_protocol.devices.data_sheets import Device
from swarm_protocol.devices.machines import combined
from swarm_protocol.devices.names import find, nearest
from swarm_protocol.snapshot.nodes.node_figures import named
from swarm_protocol.units import BYTES_PER_GIB
from swarmtop.imports.findings import Found, ImportProblem, Names, NodeFound
from swarmtop.imports.gpu import json_output, prometheus_output, text_output, xml_output
from swarmtop.imports.gpu.card import Card, Machines

ADVICE: Final = (
    "this is neither a table of nvidia-smi nor the output of a known monitor; "
    f"{text_output.ADVICE}, {json_output.AMD_ADVICE}"
)


def read(text: str, node: str | None) -> Found:
    """Read a file. `node`: the machine's name, where the monitor does not state it. Raises ImportProblem."""
    source, machines = _machines_of(text)
    if node is not None and len(machines) == 1:
        machines = {node: next(iter(machines.values()))}
    if "" in machines:
        raise ImportProblem(f"{source} does not say which machine this is; give --node NAME")
    return _found(machines, source)


def _machines_of(text: str) -> tuple[str, Machines]:
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped.startswith(("{", "[")):
        try:
            file = json.loads(stripped)
        except (ValueError, RecursionError) as error:
            raise ImportProblem(f"this is not JSON ({error}); {json_output.AMD_ADVICE}") from error
        return json_output.machines(file)
    if stripped.startswith("<"):
        return "nvidia-smi", {"": xml_output.log(stripped)}
    if text_output.is_query(stripped):
        return "nvidia-smi", {"": text_output.query(stripped)}
    if "NVSMI LOG" in stripped:
        return "nvidia-smi", {"": text_output.details(stripped)}
    if "NVIDIA-SMI" in stripped:
        return "nvidia-smi", {"": text_output.plain(stripped)}
    if cards := text_output.listed(stripped):
        return "nvidia-smi", {"": cards}
    if prometheus_output.is_metrics(stripped):
        return "metrics", prometheus_output.machines(stripped)
    raise ImportProblem(ADVICE)


def _found(machines: Machines, source: str) -> Found:
    names = Names()
    nodes: list[NodeFound] = []
    notes: list[str] = []
    for word, cards in machines.items():
        name = names.of(word or "node")
        nodes.append(machine_of(name, cards, notes))
    cards = [card for held in machines.values() for card in held]
    whole = all(card.free_bytes is None or card.free_bytes == card.total_bytes for card in cards)
    memory = "all of the memory: what other programs use is not stated" if whole else "the memory that was free then"
    first = f"{len(nodes)} machine{'s' if len(nodes) != 1 else ''}; vram_gib is {memory}"
    return Found(tuple(nodes), (), tuple(dict.fromkeys((first, *notes))), source)


def machine_of(name: str, cards: list[Card], notes: list[str]) -> NodeFound:
    """Return the machine with these GPUs; add what is unknown to `notes`."""
    sheets = [_sheet(card) for card in cards]
    known = [sheet for sheet in sheets if sheet is not None]
    free = [_free_gib(card, sheet, notes) for card, sheet in zip(cards, sheets, strict=True)]
    held = [gib for gib in free if gib is not None]
    for device in sorted({card.device for card, sheet in zip(cards, sheets, strict=True) if sheet is None}):
        near = nearest(device)
        also = f" (the nearest names are {', '.join(near)})" if near else ""
        notes.append(f"no bandwidth is known of {device[:80]}{also}; add mem_gbps or layer times")
    machine = combined(known, [gib or 1e-9 for gib in held] if len(held) == len(cards) else None) if (
        known and len(known) == len(cards)
    ) else None  # fmt: skip
    if machine is not None and len({card.device for card in cards}) > 1:
        notes.append(f"{name} runs its layers card after card: its rates average the cards' times, weighted by memory")
    if len(held) != len(cards):
        notes.append(f"the memory of {name} is not known: add vram_gib")
    return NodeFound(
        name,
        device=named([card.device for card in cards]),
        vram_gib=sum(held) if len(held) == len(cards) else None,
        mem_gbps=machine.mem_gbps if machine is not None else None,
        tflops=machine.tflops if machine is not None else None,
        remark="mem_gbps and tflops are the data sheet's: measured layer times are better" if machine else None,
    )


def _sheet(card: Card) -> Device | None:
    """Return the GPU's data-sheet values; the driver's own bandwidth takes precedence."""
    gib = card.total_bytes / BYTES_PER_GIB if card.total_bytes else None
    device = find(card.device, gib)
    if card.mem_gbps is None:
        return device
    if device is None:
        return Device(card.device, gib, card.mem_gbps, None, "")
    return Device(device.name, device.memory_gib, card.mem_gbps, device.tflops, device.device_class)


def _free_gib(card: Card, sheet: Device | None, notes: list[str]) -> float | None:
    if card.free_bytes is not None:
        return card.free_bytes / BYTES_PER_GIB
    if sheet is None:
        return None
    if not sheet.unified:
        notes.append(f"the memory of {card.device[:60]} is its data sheet's, {sheet.memory_gib:g} GiB: none was stated")
        return sheet.memory_gib
    usable = sheet.layers_gib()
    if usable is None:
        notes.append(f"{card.device[:60]} uses the machine's memory, of which its driver states no size: add vram_gib")
        return None
    notes.append(
        f"{card.device[:60]} uses the machine's memory (unified): {usable:.0f} of {sheet.memory_gib:g} GiB are counted "
        "for layers; correct vram_gib if other programs need more"
    )
    return usable
