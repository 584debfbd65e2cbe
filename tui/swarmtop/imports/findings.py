"""Hold the findings of a reader: nodes, directed links and remarks, in the units of the swarm file. None: not
stated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from swarm_protocol.messages.running import Running
from swarm_protocol.text import clean_name


class ImportProblem(ValueError):
    """Invalid input; one line that says what is wrong, and what would work."""


@dataclass(frozen=True, slots=True)
class LayerFound:
    ms: float
    model: str
    phase: Literal["decode", "prefill"]
    tokens: int  # in the cache (decode), or of the chunk (prefill)
    dtype: str
    ms_p95: float | None = None


@dataclass(frozen=True, slots=True)
class NodeFound:
    name: str
    device: str | None = None
    vram_gib: float | None = None
    up_mbps: float | None = None
    down_mbps: float | None = None
    mem_gbps: float | None = None
    tflops: float | None = None
    layers: tuple[LayerFound, ...] = ()
    remark: str | None = None  # written next to the node in the file
    fills: bool = False  # figures are a data sheet's: an existing node gets only what it lacks


@dataclass(frozen=True, slots=True)
class LinkFound:
    """A directed link, from `src` to `dst`."""

    src: str
    dst: str
    rtt_ms: float | None = None
    jitter_ms: float | None = None  # p95 − min of the round trip
    loss: float | None = None  # fraction, round trip
    mbps: float | None = None  # rate that the path carried


@dataclass(frozen=True, slots=True)
class Found:
    nodes: tuple[NodeFound, ...] = ()
    links: tuple[LinkFound, ...] = ()
    notes: tuple[str, ...] = ()  # for people, one line each
    source: str = ""  # one line, for the head of the file
    running: Running | None = None  # what runs there now

    @property
    def names(self) -> tuple[str, ...]:
        """Return every node that is mentioned, in the order of its first mention."""
        spoken = [node.name for node in self.nodes]
        for link in self.links:
            spoken += [link.src, link.dst]
        return tuple(dict.fromkeys(spoken))


@dataclass(slots=True)
class Names:
    """Valid, distinct node names for whatever others call their machines; the same word gives the same name."""

    given: dict[str, str] = field(default_factory=dict)

    def of(self, word: str, wanted: str | None = None) -> str:
        """Return the name of `word`, made from `wanted` where it is new."""
        if word in self.given:
            return self.given[word]
        base = clean_name(wanted or word)
        name, number = base, 1
        while name in self.given.values():
            number += 1
            tail = f"-{number}"
            name = base[: 32 - len(tail)] + tail
        self.given[word] = name
        return name


def quantile(values: list[float], share: float) -> float:
    """Return the nearest rank (RFC 2330 §11.3) of a list that is not empty."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
