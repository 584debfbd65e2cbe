"""How a value is written for a person: unit, ≥ for a bound, ~ for an estimate, – for not measured, age.

The one place for it: the table of `--once`, `predict`, `plan` and every screen of the dashboard write numbers with
these functions, so that the same value never reads differently in two places. JSON and CSV keep plain numbers.
Pure text, no colour, no markup; time comes in as an argument.
"""

from __future__ import annotations

import datetime as dt
import math
import unicodedata
from collections.abc import Sequence
from typing import Final

from swarm_protocol.snapshot.swarm import Kind, Nat, State, Swarm, Why
from swarm_protocol.text import safe
from swarm_protocol.units import BYTES_PER_GIB, NS_PER_S

UNMEASURED: Final = "–"
UNREAD: Final = "…"  # stored, maybe, and not read yet
PREFIX: Final[dict[Kind, str]] = {Kind.NONE: "", Kind.MEASURED: "", Kind.BOUND: "≥", Kind.ESTIMATE: "~"}

# state → glyph and word: never distinguished by colour alone
STATE_GLYPH: Final[dict[State, str]] = {
    State.UNKNOWN: "·",
    State.OK: "+",
    State.STALE: "~",
    State.LOST: "x",
    State.LEFT: "-",
}
STATE_WORD: Final[dict[State, str]] = {
    State.UNKNOWN: "unknown",
    State.OK: "ok",
    State.STALE: "stale",
    State.LOST: "lost",
    State.LEFT: "left",
}

NAT_WORDS: Final[dict[int, str]] = {
    Nat.NONE: "no NAT",
    Nat.ENDPOINT_INDEPENDENT: "NAT",
    Nat.SYMMETRIC: "hard NAT",
    Nat.UDP_BLOCKED: "UDP blocked",
}

BAR: Final = "█▓▒░"  # one shade for each part of a bar, in order; distinguishable without colour


def known(value: float | None) -> bool:
    """Whether there is a number at all: None and NaN are "not measured", infinity is "not possible"."""
    return value is not None and math.isfinite(value)


def optional(value: float) -> float | None:
    """A cell of a column as Python has it: NaN becomes None."""
    return float(value) if math.isfinite(value) else None


def figure(value: float | None, kind: Kind = Kind.MEASURED) -> str:
    """About three significant digits: `0.42`, `7.10`, `38.4`, `611`, `12400`."""
    if value is None or not math.isfinite(value):
        return UNMEASURED
    size = abs(value)
    # the limits are those of the rounded text, so that 9.996 is "10.0" and never "10.00"
    text = f"{value:.2f}" if size < 9.995 else f"{value:.1f}" if size < 99.95 else f"{value:.0f}"
    return PREFIX[kind] + ("0" if value == 0 else text)


def ms(value: float | None, kind: Kind = Kind.MEASURED) -> str:
    """`38.4 ms`; long ones in seconds: `12.4 s`."""
    if value is None or not math.isfinite(value):
        return UNMEASURED
    return f"{figure(value, kind)} ms" if abs(value) < 9_999.5 else f"{figure(value / 1e3, kind)} s"


def signed_ms(value: float | None) -> str:
    """A difference: `+12.4 ms`, `-3.10 ms`."""
    if value is None or not math.isfinite(value):
        return UNMEASURED
    return ("+" if value > 0 else "") + ms(value)


def mbps(value: float | None, kind: Kind = Kind.MEASURED) -> str:
    """`38.0 Mbit/s`; fast ones in Gbit/s."""
    if value is None or not math.isfinite(value):
        return UNMEASURED
    return f"{figure(value, kind)} Mbit/s" if value < 9_999.5 else f"{figure(value / 1e3, kind)} Gbit/s"


def gib(size_bytes: float | None) -> str:
    """`15.9 GiB`"""
    if size_bytes is None or not math.isfinite(size_bytes):
        return UNMEASURED
    return f"{figure(size_bytes / BYTES_PER_GIB)} GiB"


def percent(fraction: float | None) -> str:
    """Of a fraction: `0%`, `0.3%`, `12%`. What is not zero never reads as zero."""
    if fraction is None or not math.isfinite(fraction):
        return UNMEASURED
    value = 100 * fraction
    if value == 0:
        return "0%"
    if abs(value) < 0.05:
        return "<0.1%"
    return f"{value:.1f}%" if abs(value) < 9.95 else f"{value:.0f}%"


def rate(value: float | None) -> str:
    """Tokens a second: `1.54 tok/s`."""
    return UNMEASURED if value is None or not math.isfinite(value) else f"{figure(value)} tok/s"


def spread(p5: float, p50: float, p95: float, unit: str = "") -> str:
    """`1.54 tok/s (1.42 … 1.61)`: the middle, and where nine of ten fall."""
    return f"{figure(p50)}{' ' + unit if unit else ''} ({figure(p5)} … {figure(p95)})"


def seconds(value: float | None) -> str:
    """An age or a duration, one unit: `0s`, `59s`, `3m`, `2h`, `5d`."""
    if value is None or not math.isfinite(value):
        return UNMEASURED
    if value < 0:
        return "-" + seconds(-value)
    if value < 59.5:
        return f"{value:.0f}s"
    if value < 3570:
        return f"{value / 60:.0f}m"
    return f"{value / 3600:.0f}h" if value < 84_600 else f"{value / 86_400:.0f}d"


def age_s(then_ns: int, now_ns: int) -> float | None:
    """Seconds since `then_ns`; None if it never happened (0). A clock that ran backwards gives 0."""
    return None if then_ns == 0 or now_ns == 0 else max(0.0, (now_ns - then_ns) / NS_PER_S)


def moment(at_ns: int) -> str:
    """`2026-11-23 14:02:17 UTC`"""
    return f"{dt.datetime.fromtimestamp(at_ns // NS_PER_S, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def state_of(value: int) -> State:
    """The State in a column; one that a newer collector invented reads as unknown."""
    try:
        return State(int(value))
    except ValueError:
        return State.UNKNOWN


def state(value: int) -> str:
    """`+ ok`, `x lost`: glyph and word."""
    which = state_of(value)
    return f"{STATE_GLYPH[which]} {STATE_WORD[which]}"


def nat(value: int) -> str:
    """`hard NAT`: what a node is behind, for UDP."""
    return NAT_WORDS.get(value, UNMEASURED)


def why(swarm: Swarm, src: int, dst: int) -> str:
    """`hard NAT × NAT`, `UDP blocked at no-udp`, `no answer`: why there is no path; empty if there is one."""
    reason, nats = int(swarm.links["why"][src, dst]), swarm.nodes["nat"]
    if reason == Why.HARD_NATS:
        ends = nat(int(nats[src])), nat(int(nats[dst]))
        return " × ".join(ends) if UNMEASURED not in ends else "hard NATs"
    if reason == Why.UDP_BLOCKED:
        blocked = [safe(swarm.facts[i].name) for i in (src, dst) if nats[i] == Nat.UDP_BLOCKED]
        return " and ".join(["UDP blocked at " + blocked[0], *blocked[1:]]) if blocked else "UDP blocked"
    if reason == Why.LINK_LOCAL:
        return "on a direct cable: start both probes with --lan"
    return "no answer" if reason == Why.NO_ANSWER else ""


def way(swarm: Swarm, src: int, dst: int) -> str:
    """`eth1 to 169.254.7.8`: the interface and the address that carry the path; empty: not told."""
    peer = swarm.facts[dst].node_id
    found = next((way for way in swarm.facts[src].ways if way.peer == peer), None)
    if found is None:
        return ""
    return f"{safe(found.interface)} to {safe(found.address)}".removesuffix(" to ").removeprefix(" ")


def width(text: str) -> int:
    """Terminal cells that `text` takes: wide characters two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, cells: int) -> str:
    """`text` made harmless and cut to `cells` terminal cells, with … where something is missing."""
    text = safe(text, limit=1000)
    if width(text) <= cells:
        return text
    kept = ""
    for character in text:
        if width(kept + character) > cells - 1:
            break
        kept += character
    return kept + "…" if cells > 0 else ""


def pad(text: str, cells: int, *, right: bool = False) -> str:
    """`fit`, then filled with spaces; `right` puts the text at the right edge, as numbers are."""
    text = fit(text, cells)
    gap = " " * (cells - width(text))
    return gap + text if right else text + gap


def bar(parts: Sequence[float], cells: int) -> str:
    """One shaded bar of `cells` cells shared out by `parts` (largest remainders, so the length is exact).

    All parts zero or unknown: an empty bar. A part that is not zero but too small for a cell shows none.
    """
    clean = [max(0.0, part) if math.isfinite(part) else 0.0 for part in parts]
    total = sum(clean)
    if total <= 0 or cells <= 0:
        return ""
    exact = [part / total * cells for part in clean]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: cells - sum(counts)]:
        counts[i] += 1
    return "".join(BAR[i % len(BAR)] * count for i, count in enumerate(counts))
