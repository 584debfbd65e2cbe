"""Machines and their cards, from what monitors of GPUs print: names and memory; the bandwidth of known cards.

    nvidia-smi --query-gpu=name,memory.total,memory.free --format=csv      one machine, a line a card
    all-smi api, curl …/metrics                                            Prometheus text, many machines (`instance`)

Layers may take what is free where that is said, else the whole memory. A datasheet's bandwidth is what a card could
reach; layers reach some four fifths of it, so a measured layer time is better.
"""

from __future__ import annotations

import csv
import re
from typing import Final

from swarm_protocol.snapshot.node_figures import named
from swarm_protocol.units import BYTES_PER_GIB
from swarmtop.imports.found import Found, ImportProblem, Names, NodeFound

# Memory bandwidth, 10⁹ bytes a second, by the makers' datasheets. The first entry whose words are all there counts.
BANDWIDTH_GBPS: Final[tuple[tuple[str, float], ...]] = (
    ("b200", 8000), ("gh200 480gb", 4000), ("h200", 4800), ("h100 nvl", 3900), ("h100 pcie", 2000), ("h100", 3350),
    ("a100 80gb pcie", 1935), ("a100 80gb", 2039), ("a100", 1555), ("a40", 696), ("a30", 933),
    ("a10g", 600), ("a10", 600), ("l40s", 864), ("l40", 864), ("l4", 300), ("t4", 320), ("v100", 900), ("p100", 732),
    ("p40", 346), ("rtx 6000 ada", 960), ("rtx a6000", 768), ("rtx a5000", 768), ("rtx a4000", 448),
    ("5090", 1792), ("5080", 960), ("5070 ti", 896), ("5070", 672), ("4090", 1008), ("4080 super", 736), ("4080", 717),
    ("4070 ti super", 672), ("4070", 504), ("4060 ti", 288), ("4060", 272), ("3090 ti", 1008), ("3090", 936),
    ("3080 ti", 912), ("3080", 760), ("3070 ti", 608), ("3070", 448), ("3060 ti", 448), ("3060", 360),
    ("2080 ti", 616), ("mi300x", 5300), ("mi250x", 3277), ("7900 xtx", 960), ("7900 xt", 800),
    ("m1 ultra", 800), ("m2 ultra", 800), ("m3 ultra", 819),
)  # fmt: skip
_METRIC: Final = re.compile(
    r"(all_smi_gpu_memory_(?:total|used)_bytes)\{([^}]*)\}\s+(\d+(?:\.\d+)?(?:[eE]\+?\d{1,2})?)(?=\s|$)"
)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def read(text: str, node: str | None) -> Found:
    """`node_lines`: how the machine is called (nvidia-smi does not say). Raises ImportProblem."""
    if "all_smi_gpu_memory_total_bytes{" in text:
        return _all_smi(text, node)
    return _nvidia_smi(text, node)


def bandwidth_gbps(device: str) -> float | None:
    """By the datasheet; None for a card that is not in the table."""
    words = re.findall(r"[a-z0-9]+", device.lower())
    for name, gbps in BANDWIDTH_GBPS:
        if all(word in words for word in name.split()):
            return gbps
    return None


def _nvidia_smi(text: str, node: str | None) -> Found:
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    head = [cell.split(" [")[0] for cell in rows[0]] if rows else []
    if "memory.total" not in head or "name" not in head:
        raise ImportProblem(
            "this is no table of nvidia-smi with names and memory; "
            "nvidia-smi --query-gpu=name,memory.total,memory.free --format=csv prints one"
        )
    if node is None:
        raise ImportProblem("nvidia-smi does not say which machine this is; give --node NAME")
    cards = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(head):
            raise ImportProblem(f"line {number} has {len(row)} cells, the first line {len(head)}")
        cells = dict(zip(head, row, strict=True))
        free = cells.get("memory.free", cells["memory.total"])
        cards.append((cells["name"], _mib(free, number)))
    if not cards:
        raise ImportProblem("this table has no card in it")
    return _machines({node: cards}, "nvidia-smi")


def _mib(cell: str, line: int) -> float:
    """Bytes of `15360 MiB` or `15360` (--format=csv,nounits)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?: MiB)?", cell)
    if match is None:
        raise ImportProblem(f"line {line}: {cell[:40]!r} is no memory in MiB")
    return float(match[1]) * (1 << 20)


def _all_smi(text: str, node: str | None) -> Found:
    seen: dict[tuple[str, str], dict[str, tuple[str, float]]] = {}
    for metric, labels, value in _METRIC.findall(text):
        named_labels = dict(_LABEL.findall(labels))
        instance = named_labels.get("instance", "").rsplit(":", 1)[0]  # HOST:PORT of its exporter
        key = (instance or node or "gpu", named_labels.get("uuid") or named_labels.get("index", ""))
        seen.setdefault(key, {})[metric] = (named_labels.get("gpu") or named_labels.get("gpu_name", ""), float(value))
    machines: dict[str, list[tuple[str, float]]] = {}
    for (instance, _), metrics in seen.items():
        if "all_smi_gpu_memory_total_bytes" not in metrics:
            continue
        device, total = metrics["all_smi_gpu_memory_total_bytes"]
        _, used = metrics.get("all_smi_gpu_memory_used_bytes", ("", 0.0))
        machines.setdefault(instance, []).append((device, max(0.0, total - used)))
    if node is not None and len(machines) == 1:
        machines = {node: next(iter(machines.values()))}
    return _machines(machines, "all-smi")


def _machines(machines: dict[str, list[tuple[str, float]]], source: str) -> Found:
    names = Names()
    nodes, unknown = [], []
    for word, cards in machines.items():
        devices = [device for device, _ in cards]
        rates = [bandwidth_gbps(device) for device in devices]
        # layers are spread over the cards of a machine, one after the other: the time is that of the slowest
        rate = min((r for r in rates if r is not None), default=None) if None not in rates else None
        unknown += [device for device, r in zip(devices, rates, strict=True) if r is None]
        nodes.append(
            NodeFound(
                names.of(word),
                device=named(devices),
                vram_gib=sum(free for _, free in cards) / BYTES_PER_GIB,
                mem_gbps=rate,
                remark="mem_gbps is the datasheet's: measured layer times are better" if rate is not None else None,
            )
        )
    notes = [f"{len(nodes)} machine{'s' if len(nodes) != 1 else ''}; vram_gib is the memory that was free then"]
    if unknown:
        notes.append(f"no bandwidth is known of {', '.join(sorted(set(unknown)))[:200]}; add mem_gbps or layer times")
    return Found(tuple(nodes), (), tuple(notes), source)
