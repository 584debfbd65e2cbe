"""Parse nodes in one line, as people name them: `4090@Utrecht fiber, attic=2x3060@Berlin cable, m2-max-64 5g`.

    [NAME=][COUNTx]DEVICE[@CITY] [LINE] [vram=GIB]      separated by commas (semicolons, line ends, `and` do as well)

`4090 in Berlin` is read as `4090@Berlin`; a state or country of two letters after a city is skipped.

A count is of GPUs in one machine, and so are GPUs joined by `+`; of what is a machine by itself (a Mac, a board, an
APU) it is of machines. A line is a kind of access, its rates as DOWN/UP in Mbit/s, or both: `cable 250/40`. `vram` is
what layers may use, where that is not what the data sheet and the system's usual limit leave. What is left out is
assumed and reported: access counts as cable, a machine without a city as in the region of the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from swarm_protocol.devices.internet_access import ACCESS, access_named
from swarm_protocol.devices.machines import UnknownDevice, known_machine, machine_of, parts_of
from swarm_protocol.devices.places import UnknownCity, city_named
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.swarm_files.device_estimates import assumptions, end_of
from swarm_protocol.swarm_files.swarm_file import NodeEntry, SwarmFileError, swarm_of
from swarm_protocol.text import NAME_MAX, clean_name, is_name

DEFAULT_ACCESS: Final = "cable"
EXAMPLE: Final = "4090@Utrecht fiber, 3090@Berlin cable, 2x4060, m2-max-64 5g"
LINES: Final = f"{', '.join(ACCESS)}, or rates as DOWN/UP in Mbit/s, as in 250/40"
MAX_NODES: Final = 1000
ALONE: Final = ("apple", "apu", "board")  # classes of devices of which a machine has one
_BETWEEN: Final = re.compile(r"[,;\n]|\s(?:and|&)\s")
_IN: Final = re.compile(r"\s+in\s+", re.IGNORECASE)
_STATE: Final = re.compile(r"((?:@|\sin\s)[^,;\n@]*[^\W\d_]),?\s+[A-Z]{2}(?=\s|[,;]|$)")
_VRAM: Final = re.compile(r"\s+vram=(\d{1,5}(?:\.\d+)?)(?:gib|gb|g)?(?=\s|$)", re.IGNORECASE)
_RATES: Final = re.compile(r"(\d{1,6}(?:\.\d+)?)/(\d{1,6}(?:\.\d+)?)(?:mbit|mbps|mbit/s|mb/s)?", re.IGNORECASE)


class BadNodes(ValueError):
    """The line names something unknown; says which part, and what would work."""


@dataclass(frozen=True, slots=True)
class NamedNode:
    """One part of the line. None: not given."""

    name: str
    device: str
    city: str | None
    access: str | None
    down_mbps: float | None = None
    up_mbps: float | None = None
    vram_gib: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What stands behind a device or a city. None: not given."""

    access: str | None = None
    down_mbps: float | None = None
    up_mbps: float | None = None

    @property
    def given(self) -> bool:
        return self != Line()


def line_named(text: str) -> Line | None:
    """Return the line that `text` names and nothing else: a kind of access, rates, or both; None: it is no line. Raises
    BadNodes for a rate of 0."""
    rest, line = _line_of(f"- {text}")
    return line if rest == "-" and line.given else None


def parse_nodes(text: str) -> list[NamedNode]:
    """Parse the line. Raises BadNodes."""
    parts = [part.strip() for part in _BETWEEN.split(_STATE.sub(r"\1", text)) if part.strip()]
    if not parts:
        raise BadNodes(f"names no machine; write them as in '{EXAMPLE}'")
    if len(parts) > MAX_NODES:
        raise BadNodes(f"names {len(parts)} machines; at most {MAX_NODES} are possible")
    found: list[NamedNode] = []
    for node in map(_part, parts):
        try:
            machine = machine_of(node.device)
        except UnknownDevice as error:
            raise BadNodes(_with_at(node.device) or str(error)) from error
        if machine.vram_gib is None:
            usual = 8 if machine.device_class == "board" else 64
            raise BadNodes(
                f"{node.device!r}: {machine.name} uses the memory of its machine; add its size, as in "
                f"'{node.device} {usual}GB'"
            )
        found += _machines(node) if machine.device_class in ALONE and machine.cards > 1 else [node]
    return _named(found)


def _machines(node: NamedNode) -> list[NamedNode]:
    """Return one node for each of several devices that are machines by themselves, as `4xRaspberry Pi 5 8GB`."""
    devices = parts_of(node.device)
    names = [f"{node.name}-{k}" if node.name else "" for k in range(1, len(devices) + 1)]
    return [replace(node, name=name, device=device) for name, device in zip(names, devices, strict=True)]


def entries_of(nodes: list[NamedNode]) -> tuple[NodeEntry, ...]:
    """Return the nodes as [[node]] entries of a swarm file."""
    return tuple(
        NodeEntry(
            name=node.name,
            gpu=node.device,
            city=node.city,
            access=node.access or DEFAULT_ACCESS,
            down_mbps=node.down_mbps,
            up_mbps=node.up_mbps,
            vram_gib=node.vram_gib,
        )
        for node in nodes
    )


def swarm_of_nodes(text: str) -> Swarm:
    """Return the swarm that `text` names. Raises BadNodes."""
    nodes = parse_nodes(text)
    entries = entries_of(nodes)
    try:
        swarm = swarm_of(entries, source="--nodes")
    except SwarmFileError as error:
        raise BadNodes(str(error)) from error
    swarm.assumed = assumptions(swarm, [end_of(entry.access, entry.city) for entry in entries])
    for rated, what, words in ((False, "line", LINES), (True, "kind of line", "one of " + ", ".join(ACCESS))):
        guessed = [node.name for node in nodes if node.access is None and (node.up_mbps is not None) == rated]
        if guessed:
            named = f"no {what} of {', '.join(guessed[:4])}: taken to be {DEFAULT_ACCESS}; write {words}"
            swarm.assumed += (named,)
    return swarm


def _part(part: str) -> NamedNode:
    name = None
    if match := re.fullmatch(r"([^=@\s]+)\s*=\s*(\S.*)", part):
        name, part = match[1], match[2]
        if not is_name(name):
            raise BadNodes(f"{name[:40]!r} is not a node name; take 1 to {NAME_MAX} of A-Z a-z 0-9 . _ -")
    vram_gib = None
    if given := _VRAM.search(part):
        vram_gib, part = float(given[1]), _VRAM.sub("", part)
    if "@" not in part:
        part = _IN.sub("@", part, count=1)
    device, at, where = part.partition("@")
    device, line = _line_of(device)
    city = None
    if at:
        city, after = _city_and_line(where.strip(), part)
        if line.given and after.given:
            raise BadNodes(f"{part!r} names two lines; write one of {LINES}")
        line = line if line.given else after
    if not device:
        raise BadNodes(f"{part!r} names no device; write it as in '{EXAMPLE}'")
    return NamedNode(name or "", device, city, line.access, line.down_mbps, line.up_mbps, vram_gib)


def _line_of(text: str) -> tuple[str, Line]:
    """Split off the line, where the last words are one: a kind of access, rates, or both in either order."""
    words, line = text.split(), Line()
    while len(words) > 1:
        access, rates = access_named(words[-1]), _RATES.fullmatch(words[-1])
        if access is not None and line.access is None:
            line = replace(line, access=access)
        elif rates is not None and line.up_mbps is None:
            line = replace(line, down_mbps=_rate(rates[1]), up_mbps=_rate(rates[2]))
        else:
            break
        words.pop()
    return " ".join(words), line


def _rate(text: str) -> float:
    if not (rate_mbps := float(text)):
        raise BadNodes("a rate of 0 Mbit/s sends nothing; rates are DOWN/UP in Mbit/s, as in 250/40")
    return rate_mbps


def _city_and_line(text: str, part: str) -> tuple[str, Line]:
    words = text.split()
    if not words:
        raise BadNodes(f"{part!r} has no city after @")
    city, line = _line_of(text)
    try:
        city_named(city)
    except UnknownCity as error:
        if len(words) > 1 and not line.given and _is_city(" ".join(words[:-1])):
            raise BadNodes(f"there is no line {words[-1]!r}; there are {LINES}") from error
        raise BadNodes(str(error)) from error
    return city, line


def _with_at(device: str) -> str | None:
    """Return the advice for a device and a city without the @ between them; None: it is something else."""
    words = device.split()
    for k in range(1, len(words)):
        card, city = " ".join(words[:k]), " ".join(words[k:]).strip("()")
        if known_machine(card) is not None and _is_city(city):
            return f"{device!r}: write the city after @, as in '{card}@{city}'"
    return None


def _is_city(text: str) -> bool:
    try:
        city_named(text)
    except UnknownCity:
        return False
    return True


def _named(nodes: list[NamedNode]) -> list[NamedNode]:
    """Give every node a name of its own: as written, else its device, with its city or a number where that is taken."""
    bases = [clean_name(node.device.lower()) for node in nodes]
    taken = {node.name for node in nodes if node.name}
    if len(taken) != sum(1 for node in nodes if node.name):
        raise BadNodes("two machines have the same name; names must differ")
    named = []
    for node, base in zip(nodes, bases, strict=True):
        name = node.name
        if not name:
            wanted = base
            if bases.count(base) > 1 and node.city:
                wanted = clean_name(f"{base}-{node.city.lower()}")
            name, number = wanted, 1
            while name in taken:
                number += 1
                tail = f"-{number}"
                name = wanted[: NAME_MAX - len(tail)] + tail
            taken.add(name)
        named.append(replace(node, name=name))
    return named
