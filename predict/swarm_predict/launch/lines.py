"""Define the parts of launch commands: the question, the commands of each node, and the scope of addresses."""

from __future__ import annotations

import ipaddress
import re
import shlex
from dataclasses import dataclass
from typing import Final

from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Placement, Workload

_COUNT: Final = re.compile(r"\s*(\d{1,2})\s*[x×]\s")
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
    model: ModelShape
    workload: Workload
    placement: Placement
    client: str  # who drives the loop
    classes: dict[str, str]  # device class by node; empty: not known

    def address(self, node: str) -> str:
        return shlex.quote(self.hosts.get(node) or f"ADDRESS-OF-{node}")


def cards_of(device: str) -> int:
    """Return how many cards a device name stands for: `2x RTX 3090`, `RTX 3060 + RTX A4000`."""
    found = 0
    for part in device.split(" + "):
        count = _COUNT.match(part)
        found += int(count[1]) if count else 1
    return found


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
