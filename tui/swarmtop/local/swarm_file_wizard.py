"""Write a first swarm file from a few answers: check each answer, and comment every setting.

Pure: the command asks and writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarm_protocol.devices.internet_access import ACCESS
from swarm_protocol.devices.places import UnknownCity, city_named
from swarm_protocol.swarm_files.named_nodes import (
    DEFAULT_ACCESS,
    LINES,
    BadNodes,
    Line,
    NamedNode,
    line_named,
    parse_nodes,
)
from swarm_protocol.text import safe
from swarmtop.imports.findings import NodeFound

DEFAULT_MODEL: Final = "llama-3.1-8b"


class BadAnswer(ValueError):
    """One line that says what would do."""


@dataclass(frozen=True, slots=True)
class Answers:
    nodes: tuple[NamedNode, ...]
    model: str = DEFAULT_MODEL
    client: str | None = None  # a node's name


def machines(text: str) -> tuple[NamedNode, ...]:
    """Raises BadAnswer."""
    try:
        return tuple(parse_nodes(text))
    except BadNodes as error:
        raise BadAnswer(str(error)) from error


def cities(text: str, count: int) -> tuple[str | None, ...]:
    """One city for each machine, or one for all; nothing: not said. Raises BadAnswer."""
    given = _spread(text, count, "cities")
    for city in given:
        if city is not None:
            try:
                city_named(city)
            except UnknownCity as error:
                raise BadAnswer(str(error)) from error
    return given


def lines(text: str, count: int) -> tuple[Line, ...]:
    """One line for each machine, or one for all: a kind, rates, or both. Raises BadAnswer."""
    return tuple(Line() if part is None else _line_of(part) for part in _spread(text, count, "lines"))


def _line_of(text: str) -> Line:
    try:
        line = line_named(text)
    except BadNodes as error:
        raise BadAnswer(str(error)) from error
    if line is None:
        raise BadAnswer(f"there is no line {text!r}; there are {LINES}")
    return line


def client(text: str, names: tuple[str, ...]) -> str | None:
    """Raises BadAnswer."""
    name = text.strip()
    if not name:
        return None
    if name not in names:
        raise BadAnswer(f"there is no machine {name!r}; there are {', '.join(names)}")
    return name


def _spread(text: str, count: int, what: str) -> tuple[str | None, ...]:
    parts = [part.strip() or None for part in text.split(",")] if text.strip() else [None]
    if len(parts) == 1:
        return tuple(parts * count)
    if len(parts) != count:
        raise BadAnswer(f"{len(parts)} {what} for {count} machines; write one for each, or one for all")
    return tuple(parts)


# ---------------------------------------------------------------- the file

HEAD: Final = """# A swarm for swarmtop: the machines, their lines, and what runs there.
#   swarmtop plan --swarm {file} --model {model}
# Every figure that you write wins over what a name fills in. All keys: docs/swarm-file.md.
"""
KEYS: Final = """# vram_gib = 22.5              # memory that layers may take; the name above fills it
# mem_gbps = 860.0             # memory bandwidth that layers reach
# up_mbps = 40.0               # measured: what the line carries; the kind of line fills it
# down_mbps = 250.0
"""
FRIEND: Final = """# Another machine:
# [[node]]
# name = "friend"
# gpu = "RTX 4090"
# access = "fiber"
# city = "Berlin"
"""
LINK: Final = """# A measured round trip replaces the one between the cities:
#   swarmtop import ping FILE --from {one} --to {other} --into {file}
# [[link]]
# from = "{one}"
# to = "{other}"
# rtt_ms = 18.0
# jitter_ms = 2.0              # p95 − min
"""


def written(answers: Answers, file: str) -> str:
    """The text of the file."""
    parts = [HEAD.format(file=safe(file), model=answers.model)]
    for number, node in enumerate(answers.nodes):
        body = [f"[[node]]\nname = {_quoted(node.name)}", f"gpu = {_quoted(node.device)}"]
        kinds = " | ".join(ACCESS)
        said = kinds if node.access else f"not said, so taken to be this; {kinds}"
        body.append(_line("access", node.access or DEFAULT_ACCESS, said))
        for way, rate_mbps in (("up", node.up_mbps), ("down", node.down_mbps)):
            if rate_mbps is not None:
                body.append(f"{way}_mbps = {rate_mbps:g}")
        body.append(_line("city", node.city, "round trips come from a matrix of cities"))
        parts.append("\n".join(body) + "\n" + (KEYS if number == 0 else ""))
    names = [node.name for node in answers.nodes]
    if len(names) > 1:
        parts.append(LINK.format(file=safe(file), one=names[0], other=names[1]))
    parts.append(_client(answers.client))
    return "\n".join(parts)


def written_detected(node: NodeFound, file: str, model: str = DEFAULT_MODEL) -> str:
    """The file of one machine that was looked at."""
    body = [f"[[node]]\nname = {_quoted(node.name)}", f"device = {_quoted(node.device or '')}"]
    for key in ("vram_gib", "mem_gbps", "tflops"):
        value = getattr(node, key)
        note = {"vram_gib": "free now", "mem_gbps": "by the data sheet", "tflops": "by the data sheet"}[key]
        body.append(f"{key} = {float(f'{value:.4g}')}".ljust(31) + f"# {note}" if value else f"# {key} = ")
    body.append(_line("access", None, " | ".join(ACCESS)))
    body.append(_line("city", None, "round trips come from a matrix of cities"))
    return "\n".join([HEAD.format(file=safe(file), model=model), "\n".join(body) + "\n", FRIEND, _client(None)])


def _line(key: str, value: str | None, note: str) -> str:
    text = f"{key} = {_quoted(value)}" if value else f'# {key} = ""'
    return f"{text:<31}# {note}"


def _client(name: str | None) -> str:
    if name is None:
        return '# [client]                     # who asks; without it the first stage does\n# node = "…"\n'
    return f"[client]                       # who asks\nnode = {_quoted(name)}\n"


def _quoted(text: str) -> str:
    """A basic string of TOML; names come from people and drivers."""
    plain = safe(text, 200).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'
