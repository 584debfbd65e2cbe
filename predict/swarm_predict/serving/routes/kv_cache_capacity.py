"""Compute the memory left for KV caches on each machine, and divide it among routes that share a machine.

A machine of several routes holds the union of their layers, each once, and the caches of all: a request has a cache for
the layers that its own route visits there. Memory is divided among the routes by weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from swarm_predict.cost.machine.memory import Needs
from swarm_predict.types import DoesNotFit, Stage
from swarm_protocol.units import gib_apart

MAX_SEQUENCES: Final = 4096  # at once, whatever memory holds: no scheduler runs more


@dataclass(frozen=True, slots=True)
class Room:
    """The room for caches that a machine has in one route."""

    node: str
    layers: str  # as text, for an error
    has_bytes: float
    held_bytes: float  # weights, buffers and the engine's runtime
    each_bytes: float  # of the cache of one request

    @property
    def sequences(self) -> float:
        return (self.has_bytes - self.held_bytes) / self.each_bytes if self.each_bytes else math.inf


def most_sequences(rooms: Sequence[Room], tokens: float) -> tuple[float, str]:
    """Return (requests that have room at once, the machine that allows no more).

    Raises DoesNotFit where not even one has."""
    for room in rooms:
        if room.sequences < 1:
            needs, has = gib_apart(room.held_bytes + room.each_bytes, room.has_bytes)
            raise DoesNotFit(
                f"{room.node} needs {needs} GiB for layers {room.layers} and the cache of one request of "
                f"{tokens:.0f} tokens, has {has}; give it fewer layers or smaller --weights"
            )
    least = min(rooms, key=lambda room: room.sequences)
    return (least.sequences, least.node) if least.sequences < MAX_SEQUENCES else (MAX_SEQUENCES, "")


def union_bytes(needs: Needs, stages: Sequence[Stage]) -> float:
    """Return what stages of several routes take on one machine without caches: layers that both use are there once."""
    held = {layer for stage in stages for layer in range(stage.first, stage.last + 1)}
    starts = sorted(layer for layer in held if layer - 1 not in held)
    ends = sorted(layer for layer in held if layer + 1 not in held)
    weights = sum(needs.model.stage_bytes(a, b, needs.weights) for a, b in zip(starts, ends, strict=True))
    first, last = 0 in held, needs.model.layers - 1 in held
    beside = needs.only_bytes if first and last else first * needs.first_bytes + last * needs.last_bytes
    return weights + beside + needs.scratch_bytes


def divided(rooms: Sequence[Room], held_bytes: float, weights: Sequence[float]) -> list[Room]:
    """Return each route's room on a machine that holds `held_bytes` for all of them.

    `weights`: requests of each route for one of all. Raises DoesNotFit where not one request of each has room."""
    has, tokens = rooms[0].has_bytes, sum(room.each_bytes for room in rooms)
    if has - held_bytes < tokens:
        needs_text, has_text = gib_apart(held_bytes + tokens, has)
        raise DoesNotFit(
            f"{rooms[0].node} needs {needs_text} GiB for layers "
            f"{' and '.join(dict.fromkeys(room.layers for room in rooms))} and the caches of one request of each "
            f"placement, has {has_text}; give it fewer layers or smaller --weights"
        )
    spare = has - held_bytes - tokens  # beyond one request of each
    asked = [room.each_bytes * weight for room, weight in zip(rooms, weights, strict=True)]
    total = sum(asked)
    return [
        replace(room, has_bytes=room.each_bytes + spare * (part / total if total else 1 / len(rooms)), held_bytes=0.0)
        for room, part in zip(rooms, asked, strict=True)
    ]
