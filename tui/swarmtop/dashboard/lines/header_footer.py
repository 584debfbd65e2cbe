"""Draw the lines around every screen: the header, the footer, and the notice of a terminal too small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarm_protocol.snapshot.lazy_numpy import np
from swarm_protocol.snapshot.open_changes import open_changes
from swarm_protocol.snapshot.swarm import State
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.ranking.states import GLYPH
from swarmtop.dashboard.keymap import SCREENS, SHORT, TITLES, Action, Screen, shown
from swarmtop.dashboard.lines.styled import (
    Block,
    Line,
    Span,
    clean,
    fill_line,
    fit,
    line,
    line_width,
    separated,
    spread,
    text_width,
)
from swarmtop.dashboard.state.view import RunningSummary, View
from swarmtop.text import quantities

MIN_WIDTH: Final = 36
MIN_HEIGHT: Final = 15
PHONE: Final = 56  # cells below which the footer names the present screen only

_BADGE: Final[dict[RunningSummary, str]] = {
    "live": "● LIVE", "paused": "‖ PAUSED", "replay": "« REPLAY", "file": "· FILE",
}  # fmt: skip
_ALARMING: Final = ("lost", "stale", "degraded")  # words, the worst first


def header(view: View, width: int) -> Line:
    """Return the header. Mode and time come first, so that they are seen at any width; then the rates, the swarm, the
    source."""
    first = [line(("swarmtop", "brand")), _standing(view)]
    model = clean(view.model.rsplit("/", 1)[-1] or view.model, 24)
    rates = next(
        (words for words in (_rates(view, model), _rates(view, ""), _rates(view, "", short=True))
         if line_width(separated([*first, words], "  ")) <= width),
        _rates(view, "", short=True),
    )  # fmt: skip
    if line_width(separated([*first, rates], "  ")) > width:
        first = first[1:]  # the name is shortened first
    if line_width(separated([*first, rates], "  ")) > width:
        rates = _speed(view)
    parts: list[Line] = [
        *first,
        rates,
        _changes(view),
        _alerts(view),
        line(f"{len(view.swarm)} node{'' if len(view.swarm) == 1 else 's'}"),
        line((clean(view.title, 40), "dim")),
    ]
    return fit(fill_line(parts, width, "  "), width, "header")


def before_frames(standing: RunningSummary, nodes: int, title: str, width: int) -> Line:
    """Return the header while only the members are known."""
    count = line(f"{nodes} node{'' if nodes == 1 else 's'}")
    parts = [
        line(("swarmtop", "brand")),
        line((f" {_BADGE[standing]} ", standing)),
        count,
        line((clean(title, 40), "dim")),
    ]
    return fit(fill_line(parts, width, "  "), width, "header")


def _standing(view: View) -> Line:
    if view.silent_since_ns is not None:
        since = f" since {view.clock(view.silent_since_ns)}" if view.silent_since_ns else ""
        return line((f" x NO COLLECTOR{since} ", "silent"))
    badge: Span = (f" {_BADGE[view.standing]} ", view.standing)
    if view.standing == "file":
        return (badge,)
    parts: list[Span] = [badge, (f" {view.clock(view.swarm.at_ns)}", "")]
    if view.standing == "live":
        late = (view.now_ns - view.swarm.at_ns) / NS_PER_S
        if late >= 3:
            parts.append((f" ({quantities.seconds(late)} old)", "warn"))
    else:
        behind = (view.latest_ns - view.swarm.at_ns) / NS_PER_S
        if view.standing == "replay":
            parts.append((f" {'▶' if view.playing else '‖'} ×{view.speed:g}", ""))
        if behind >= 1:
            parts.append((f" ({quantities.seconds(behind)} behind)", "warn"))
    return tuple(parts)


def _rates(view: View, model: str, *, short: bool = False) -> Line:
    """Return `llama-3.1-8b  you run 9.3 tok/s (8.8 … 9.9), best 21.4 (+130 %)`."""
    lead = [(f"{model} ", "")] if model else []
    if view.analysis is None or not len(view.swarm):
        return (*lead, ("planning…", "dim"))
    if view.analysis.stands is None and view.plan is None:
        return (*lead, (view.analysis.headline(), "dim"))
    return (*lead, (view.analysis.headline(short=short), "strong"))


def _speed(view: View) -> Line:
    """Return `2.27 tok/s` for a narrow screen: of what runs, else of the best plan."""
    stands = view.analysis.stands if view.analysis is not None else None
    return line((quantities.rate(stands.tokens_per_s.p50), "strong")) if stands is not None else ()


def _changes(view: View) -> Line:
    """Return the nodes that are worse than usual now: named if there is one, counted if there are more."""
    found = open_changes(reversed(view.events))
    if not found:
        return ()
    who = clean(found[0].node or "swarm", 24) if len(found) == 1 else str(len(found))
    return line((f"▲ {who}", "slow"))


def _alerts(view: View) -> Line:
    count = len(alerts(view))
    return line((f"alerts {count}", "warn")) if count else ()


def alerts(view: View) -> Block:
    """Return what needs attention now, worst first; each line says what and for how long."""
    found: Block = [line(("x this machine", "lost"), f"  {clean(view.trouble, 300)}")] if view.trouble else []
    if view.silent_since_ns is not None:
        found.append(
            line(("x no collector", "lost"), f"  not heard since {view.clock(view.silent_since_ns)}; trying again")
        )
    found += [line(("! rule", "warn"), f"  {clean(text, 200)}") for text in view.firing]
    left = view.swarm.nodes["state"] == State.LEFT  # a node that left in order is no alarm
    some = any(view.words.count(word) for word in _ALARMING)
    unwell = [row for row, word in enumerate(view.words) if word in _ALARMING and not left[row]] if some else []
    for row in sorted(unwell, key=lambda row: _ALARMING.index(view.word(row))):
        word = view.word(row)
        age = quantities.seconds(quantities.optional(float(view.figures.age_s[row])))
        name = clean(view.swarm.facts[row].name)
        found.append(line((f"{GLYPH[word]} {name}", word), f"  {word}, last heard {age} ago"))
    found += [
        line((f"▲ {clean(event.node or 'the swarm', 40)}", "slow"), f"  {clean(event.detail, 200)}")
        for event in open_changes(reversed(view.events))
    ]
    for row in np.flatnonzero(view.swarm.nodes["throttled"] == 1).tolist():
        found.append(line((f"! {clean(view.swarm.facts[row].name)}", "warn"), "  its GPU is throttled (heat or power)"))
    if view.standing == "live" and view.now_ns - view.swarm.at_ns >= 15 * NS_PER_S:
        found.append(
            line(
                ("! no news", "warn"),
                f"  the newest frame is {quantities.seconds((view.now_ns - view.swarm.at_ns) / NS_PER_S)} old",
            )
        )
    return found


def footer(actions: Sequence[Action], screen: Screen, width: int) -> Line:
    """Return the footer: screens first, then this screen's keys as far as they fit; help and quit are always there."""
    wide = width >= 120
    tabs: list[Span] = [(" ", "")]
    for number, name in enumerate(SCREENS, 1):
        title = TITLES[name] if wide else SHORT[name] if width >= PHONE or name == screen else ""
        tabs += [(f"{number}", "key"), (f" {title} " if wide else f"{title} ", "tab-on" if name == screen else "tab")]
    tabs.append(("│ ", "frame"))
    always = [a for a in actions if a.name in ("help", "quit")]
    rest = [a for a in actions if a.footer and a not in always]
    end = fill_line([_key(a) for a in always], width, " ")
    room = width - line_width(tuple(tabs)) - line_width(end) - 2
    middle = fill_line([_key(a) for a in rest], max(0, room), " ")
    return spread((*tabs, *middle), (*end, (" ", "")), width)


def key_at(row: Line, x: int) -> str | None:
    """Return the key at cell `x` of a footer, including the words after it; None between keys."""
    at, key = 0, None
    for text, role in row:
        if role == "key":
            key = text
        elif role in ("frame", "dim"):
            key = None
        if at <= x < at + text_width(text):
            return key
        at += text_width(text)
    return None


def _key(action: Action) -> Line:
    return line((shown(action.keys[0]), "key"), f" {action.label}")


def too_small(width: int, rows: int) -> Block:
    """Return what a terminal below the smallest layout shows instead of a screen."""
    return [
        line(("terminal too small", "warn")),
        line(f"{width}×{rows}; at least {MIN_WIDTH}×{MIN_HEIGHT}"),
        line("enlarge it, or q to quit"),
    ]
