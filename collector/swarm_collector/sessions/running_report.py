"""Validate what a viewer says the swarm runs, before it is stored and shown to everybody. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from swarm_protocol.messages.running import Running, tidy
from swarm_protocol.text import safe


def checked(report: Running, is_node: Callable[[str], bool], at_ns: int) -> Running | str:
    """Return the report with cleaned text and the collector's time, or one line that says why it is refused."""
    placement = tidy(report.placement) if report.placement else ""
    if placement is None:
        return "that placement is not written like a:0-39,b:40-79"
    for stage in placement.split(",") if placement else ():
        if not is_node(name := stage.partition(":")[0]):
            return f"there is no node {safe(name, 40)!r} in this swarm"
    words = {name: safe(getattr(report, name), limit=60).replace(" ", "-") for name in ("engine", "model")}
    source = " ".join(safe(report.source, limit=60).split())
    return msgspec.structs.replace(report, placement=placement, source=source, at_ns=at_ns, **words)
