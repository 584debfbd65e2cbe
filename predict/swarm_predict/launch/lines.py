"""Define the parts of launch commands: the question, the commands of each node, and the scope of addresses."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Placement, Workload

MODEL_NOTE: Final = "$MODEL: the Hugging Face id or folder of {model}"


@dataclass(frozen=True, slots=True)
class Command:
    node: str  # where it is typed
    text: str  # one shell line, or a JSON document


@dataclass(frozen=True, slots=True)
class Launch:
    commands: tuple[Command, ...]
    warnings: tuple[str, ...]  # problems to expect unless they are heeded
    notes: tuple[str, ...]  # what to fill in


@dataclass(frozen=True, slots=True)
class Question:
    hosts: dict[str, str]  # address by node; empty: not known
    cards: dict[str, int]  # graphics cards by node
    together: int  # of them, that split each layer; the others of a machine are further stages
    model: ModelShape
    workload: Workload
    placement: Placement
    client: str  # who drives the loop
    classes: dict[str, str]  # device class by node; empty: not known

    def address(self, node: str) -> str:
        return shlex.quote(self.hosts.get(node) or f"ADDRESS-OF-{node}")


def by_card(layers: int, cards: int) -> list[int]:
    """Return the layers of each of so many cards or groups of cards, as even as possible."""
    share, more = divmod(layers, cards)
    return [share + (k < more) for k in range(cards)]


def stages_of_cards(question: Question, nodes: Sequence[str], layers: Sequence[int]) -> list[int]:
    """Return the layers of each stage, where machines with more cards than split a layer are several of them."""
    groups = (max(1, question.cards.get(node, 1) // question.together) for node in nodes)
    return [part for count, held in zip(groups, layers, strict=True) for part in by_card(held, count)]


def is_private(host: str) -> bool:
    """An address that the open internet cannot reach. A name, or nothing, is not known to be one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not address.is_global and not address.is_unspecified and not address.is_loopback


def is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
