"""Draw an event as a line, and as a mark on a time line."""

from __future__ import annotations

from typing import Final

from swarm_protocol.snapshot.swarm import Event
from swarmtop.dashboard.lines.styled import Line, Span, clean
from swarmtop.dashboard.state.view import View

EVENT_GLYPH: Final = {
    "joined": "+", "back": "+", "left": "-", "lost": "x", "refused": "x", "disk": "!", "spool_gap": "!", "clock": "!",
    "udp_off": "!", "torch_missing": "!", "compute_failed": "!", "throttled": "!", "running": "▶",
    "degraded": "▲", "recovered": "▼", "improved": "▼", "settled": "·",
}  # fmt: skip
_EVENT_ROLE: Final = {
    "+": "ok", "-": "left", "x": "lost", "!": "warn", "·": "dim", "▲": "slow", "▼": "ok", "▶": "strong",
}  # fmt: skip
# on a time line: a change and its end; everything else is a dot
MARKERS: Final[dict[str, Span]] = {
    "degraded": ("◆", "slow"), "recovered": ("◇", "ok"), "improved": ("◇", "ok"), "settled": ("◇", "dim"),
    "running": ("▶", "strong"), "lost": ("x", "lost"), "joined": ("+", "ok"), "back": ("+", "ok"), "left": ("-", "dim"),
}  # fmt: skip


_OF_TIMINGS: Final = frozenset(("torch_missing", "compute_failed"))


def _is_over(view: View, event: Event) -> bool:
    """Return whether layers were timed after this failure, or a later one replaces it: then it is no alarm."""
    if event.kind not in _OF_TIMINGS or event.node not in view.swarm.names:
        return False
    return view.swarm.facts[view.swarm.index(event.node)].note != event.detail


def event_line(view: View, event: Event, *, node: bool = True) -> Line:
    glyph = "·" if _is_over(view, event) else EVENT_GLYPH.get(event.kind, "·")
    who = f"{clean(event.node, 40)} " if node and event.node else ""
    if event.kind in ("degraded", "recovered"):  # the sign carries the direction, and the numbers matter most
        who = f"{who.strip()}: " if who else ""
        return (
            (view.clock(event.at_ns) + " ", "dim"),
            (f"{glyph} ", _EVENT_ROLE[glyph]),
            (who, "strong"),
            (clean(event.detail, 300), ""),
        )
    return (
        (view.clock(event.at_ns) + " ", "dim"),
        (f"{glyph} ", _EVENT_ROLE[glyph]),
        (who, "strong"),
        (clean(event.kind, 20).replace("_", " "), ""),
        (f" {clean(event.detail, 300)}" if event.detail else "", "dim"),
    )
