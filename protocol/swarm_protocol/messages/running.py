"""Describe the placement that a swarm runs now, as reported, and its text in an event of kind "running".

It comes from a swarm file, a Petals monitor, launch lines that were accepted, a watched engine or an option. The newest
report counts. Nothing here checks it against the nodes: they may come and go while it stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

KIND: Final = "running"  # of the event
RUNNING_SETTING: Final = "running"  # in the store: the newest report, where its event has been pruned
MAX_DETAIL: Final = 4500  # of the event: the placement and its description
MAX_PLACEMENT: Final = 4000  # characters: a hundred stages with names of 32
PlacementText = Annotated[str, Meta(max_length=MAX_PLACEMENT)]
_STAGE: Final = r"[A-Za-z0-9._-]{1,32}:\d{1,6}(?:-\d{1,6})?"
_PLACEMENT: Final = re.compile(rf"{_STAGE}(?:,{_STAGE})*")
_DETAIL: Final = re.compile(
    r"(?P<placement>\S+)(?: engine=(?P<engine>\S+))?(?: model=(?P<model>\S+))?(?: told by (?P<source>.+))?"
)
NOTHING: Final = "nothing"


class Running(msgspec.Struct, frozen=True):
    """The report. `placement` empty: nothing runs."""

    placement: PlacementText  # "a:0-39,b:40-79", layers inclusive
    engine: Annotated[str, Meta(max_length=64)] = ""  # empty: unknown
    model: Annotated[str, Meta(max_length=200)] = ""
    source: Annotated[str, Meta(max_length=60)] = ""  # the source of the report: "launch lines", "petals monitor", …
    at_ns: int = 0


def tidy(placement: str) -> str | None:
    """Return the placement without blanks; None if it is invalid (too long, or not NODE:FIRST-LAST)."""
    text = re.sub(r"\s+", "", placement)
    return text if len(text) <= MAX_PLACEMENT and _PLACEMENT.fullmatch(text) else None


def detail_of(running: Running) -> str:
    """Return the detail of its event."""
    words = [running.placement or NOTHING]
    if running.engine:
        words.append(f"engine={running.engine}")
    if running.model:
        words.append(f"model={running.model}")
    if running.source:
        words.append(f"told by {running.source}")
    return " ".join(words)


def from_detail(at_ns: int, detail: str) -> Running | None:
    """Return the inverse of `detail_of`; None if the detail says something else."""
    match = _DETAIL.fullmatch(detail)
    if match is None:
        return None
    placement = "" if match["placement"] == NOTHING else tidy(match["placement"])
    if placement is None:
        return None
    return Running(placement, match["engine"] or "", match["model"] or "", match["source"] or "", at_ns)


def renamed(running: Running, name_of: Callable[[str], str]) -> Running:
    """Return the report with the name that `name_of` returns for each of its nodes."""
    if not running.placement:
        return running
    stages = (stage.split(":") for stage in running.placement.split(","))
    placement = ",".join(f"{name_of(node)}:{layers}" for node, layers in stages)
    return running if placement == running.placement else msgspec.structs.replace(running, placement=placement)


def newer(known: Running | None, report: Running) -> Running:
    """Return the later of the two reports."""
    return report if known is None or report.at_ns >= known.at_ns else known
