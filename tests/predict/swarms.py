"""A small swarm written by hand, with one node of each kind of trouble."""

from __future__ import annotations

from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm

PLAIN = "vram_gib = 24\nup_mbps = 100\ndown_mbps = 200\nmem_gbps = 900\ntflops = 70\noverhead_ms = 1"


def node(name: str, **changes: float) -> str:
    lines = dict(line.split(" = ") for line in PLAIN.splitlines())
    lines.update({key: str(value) for key, value in changes.items()})
    return "\n".join(["[[node]]", f'name = "{name}"', *(f"{key} = {value}" for key, value in lines.items())])


def link(src: str, dst: str, rtt_ms: float, jitter_ms: float = 2.0) -> str:
    return f'[[link]]\nfrom = "{src}"\nto = "{dst}"\nrtt_ms = {rtt_ms}\njitter_ms = {jitter_ms}'


def both(name: str, rtt_ms: float, jitter_ms: float = 2.0) -> str:
    return "\n".join([link(name, "*", rtt_ms, jitter_ms), link("*", name, rtt_ms, jitter_ms)])


def swarm_of(*parts: str) -> Swarm:
    return parse_swarm("\n".join(parts), source="test")


def plain(*, count: int = 5, rtt_ms: float = 30.0, trouble: str = "", **changes: float) -> Swarm:
    """`count` equal nodes n0…; n2 has `changes`; `trouble` are further link lines."""
    nodes = [node(f"n{i}", **(changes if i == 2 else {})) for i in range(count)]
    return swarm_of(*nodes, link("*", "*", rtt_ms), trouble)
