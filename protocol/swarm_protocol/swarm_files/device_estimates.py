"""Fill columns of a Swarm from names: hardware from data sheets, paths from access kinds and cities.

Values filled in have the kind ESTIMATE, and a line that names their source. Written and measured values stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from swarm_protocol.devices.internet_access import ACCESS, access_named
from swarm_protocol.devices.machines import Machine
from swarm_protocol.devices.places import SAME_REGION_MS, city_named, path_estimate
from swarm_protocol.snapshot.lazy_numpy import np
from swarm_protocol.snapshot.swarm import Kind, Path, Swarm
from swarm_protocol.units import BYTES_PER_GIB

SHOWN: Final = 4  # names in one line


class End(msgspec.Struct, frozen=True):
    """How one node is connected. None: not given."""

    access: str | None = None  # a key of ACCESS
    city: str | None = None  # as the matrix names it
    written: str | None = None  # the city as written


def end_of(access: str | None, city: str | None) -> End:
    """Return the end of a node. Raises UnknownCity, and ValueError for an unknown kind of access."""
    kind = None if access is None else access_named(access)
    if access is not None and kind is None:
        raise ValueError(f"there is no access {access!r}; there are {', '.join(ACCESS)}")
    return End(kind, None if city is None else city_named(city), city)


def fill_hardware(swarm: Swarm, i: int, machine: Machine, *, memory: bool = True) -> None:
    """Fill the unknown columns of row `i` from the data sheet."""
    columns = swarm.nodes
    if memory and machine.vram_gib is not None and np.isnan(columns["vram_bytes"][i]):
        columns["vram_bytes"][i] = columns["vram_free_bytes"][i] = machine.vram_gib * BYTES_PER_GIB
    if np.isnan(columns["mem_gbps"][i]):
        columns["mem_gbps"][i], columns["mem_kind"][i] = machine.mem_gbps, Kind.ESTIMATE
    if np.isnan(columns["tflops"][i]) and machine.tflops is not None:
        columns["tflops"][i] = machine.tflops


def fill_lines(swarm: Swarm, ends: Sequence[End]) -> None:
    """Fill uplinks, downlinks and round trips of nodes with known access or cities; [[link]] entries come later."""
    nodes, links = swarm.nodes, swarm.links
    for i, end in enumerate(ends):
        if end.access is None:
            continue
        line = ACCESS[end.access]
        for way, rate in (("up", line.up_mbps), ("down", line.down_mbps)):
            if np.isnan(nodes[f"{way}_mbps"][i]):
                nodes[f"{way}_mbps"][i], nodes[f"{way}_kind"][i] = rate, Kind.ESTIMATE
    for i, one in enumerate(ends):
        for j in range(i):
            path = path_estimate(one.access, one.city, ends[j].access, ends[j].city)
            if path is None:
                continue
            for pair in ((i, j), (j, i)):
                links["rtt_min_ms"][pair] = links["rtt_p50_ms"][pair] = path.rtt_ms
                links["jitter_ms"][pair], links["loss"][pair] = path.jitter_ms, 0.0
                links["kind"][pair], links["path"][pair] = Kind.ESTIMATE, Path.ESTIMATED


def prefer_measured(swarm: Swarm) -> None:
    """Drop the estimate of one direction if the other was measured: the measurement counts for both, as in swarm
    files."""
    links = swarm.links
    way_back = (links["kind"] == Kind.ESTIMATE) & (links["kind"].T == Kind.MEASURED)
    for column in ("rtt_min_ms", "rtt_p50_ms", "jitter_ms", "loss"):
        links[column][way_back] = np.nan
    links["kind"][way_back], links["path"][way_back] = Kind.NONE, Path.NONE


def assumptions(swarm: Swarm, ends: Sequence[End]) -> tuple[str, ...]:
    """Return what was taken from access kinds and cities, one line each. Empty where measurements replaced all of
    it."""
    guessed = swarm.links["kind"] == Kind.ESTIMATE
    lines: list[str] = []
    used = [i for i in range(len(ends)) if guessed[i].any() or guessed[:, i].any()]
    moved = {
        f"{end.written} as {end.city}" for end in (ends[i] for i in used)
        if end.city is not None and end.written is not None and end.written.lower() != end.city.lower()
    }  # fmt: skip
    if any(ends[i].city is not None for i in used):
        also = f" (counted: {', '.join(sorted(moved))})" if moved else ""
        lines.append(f"round trips between cities are means of WonderNetwork's servers there{also}")
    kinds = dict.fromkeys(end.access for end in ends if end.access is not None)
    if kinds:
        lines.append(f"what a line carries and adds is typical of its kind ({', '.join(kinds)}), not measured")
    apart = [
        swarm.facts[i].name for i in used
        if ends[i].city is None and any(
            guessed[i, j] and not _one_network(ends[i], ends[j]) for j in range(len(ends)) if j != i)
    ]  # fmt: skip
    if apart:
        more = f" and {len(apart) - SHOWN} more" if len(apart) > SHOWN else ""
        lines.append(
            f"no city of {', '.join(apart[:SHOWN])}{more}: taken to be in the region of the others, "
            f"{SAME_REGION_MS:g} ms apart"
        )
    return tuple(lines)


def _one_network(one: End, other: End) -> bool:
    return all(end.access is not None and ACCESS[end.access].local for end in (one, other))
