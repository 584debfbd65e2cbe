"""Draw the parts of the placement screen: the two rate lines, the stages side by side, the bars, the candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from swarm_predict.types import Placement, Prediction
from swarm_protocol.text import safe
from swarm_protocol.units import BYTES_PER_GIB
from swarmtop.analysis.ranking.states import GLYPH
from swarmtop.dashboard.lines.charts.series import stacked
from swarmtop.dashboard.lines.styled import Block, Line, Span, clean, fill_line, line, line_width, pad, wrap
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.state.what_if import Candidate
from swarmtop.text import quantities
from swarmtop.text.prediction import LIMITS

if TYPE_CHECKING:
    from swarmtop.dashboard.lines.placement.placement_lines import PlacementState

_PARTS: Final = (
    ("compute", "█", "compute"),
    ("network", "▓", "network"),
    ("overhead", "▒", "overhead"),
    ("head", "░", "head-time"),
)
_LEFT: Final = ("COMP ms", "HOP ms", "MEM GiB", "FREE")
_EDIT_HINT: Final = (
    ("←→", "a layer"), ("s", "swap"), ("d", "drop"), ("+", "add"), ("Tab", "candidates"), ("o", "best of these nodes"),
)  # fmt: skip


# ---------------------------------------------------------------- rates


def best_line(best: Prediction, width: int, more: Sequence[Line] = ()) -> Line:
    limited = line(("limited by ", "dim"), (best.limited_by, "warn"))
    prompts: Line = ()
    if best.prompt_limited_by and best.prompt_limited_by != LIMITS[best.limited_by]:
        prompts = line(("prompts by ", "dim"), (safe(best.prompt_limited_by), "warn"))
    fits = () if best.fits else line(("does not fit in memory", "error"))
    rate = line(" ", ("BEST    ", "head"), " ", *_rate(best), "   ")
    return (*rate, *fill_line([fits, limited, prompts, *more], max(0, width - line_width(rate))))


def draft_line(best: Prediction, state: PlacementState, width: int) -> Line:
    title: tuple[str, str] = ("WHAT-IF ", "head")
    if not state.draft:
        hint = [line((key, "key"), f" {what}") for key, what in _EDIT_HINT]
        return line(" ", title, " ", ("edit it: ", "dim"), *fill_line(hint, max(0, width - 20), "  "))
    found = state.prediction()
    edits = f"{len(state.draft)} edit{'s' if len(state.draft) > 1 else ''}, not saved"
    if found is None:
        said = state.why_not()
        return line(" ", title, " ", (clean(said, 300), "error") if said else ("computing…", "dim"))
    gain = found.tokens_per_s.p50 / best.tokens_per_s.p50 - 1 if best.tokens_per_s.p50 else math.nan
    role = "ok" if gain > 0 else "warn"
    said_so_far = line(" ", title, " ", *_rate(found), "   ")
    parts: list[Line] = [
        () if found.fits else line(("does not fit in memory", "error")),
        line((_signed_percent(gain), role), (" against the best" if width >= 100 else "", "dim")),
        line((edits, "dim")),
    ]
    return (*said_so_far, *fill_line(parts, max(0, width - line_width(said_so_far)), "  "))


def _rate(found: Prediction) -> Line:
    rate, tpot = found.tokens_per_s, found.tpot_ms
    return line(
        (quantities.figure(rate.p50), "strong"),
        f" tok/s ({quantities.figure(rate.p5)}–{quantities.figure(rate.p95)})",
        (f"  {quantities.figure(tpot.p50)} ms", "dim"),
    )


def _signed_percent(share: float) -> str:
    if not math.isfinite(share):
        return quantities.UNMEASURED
    text = f"{100 * share:+.1f}%" if abs(share) < 0.0995 else f"{100 * share:+.0f}%"
    return text.replace("-", "−")


# ---------------------------------------------------------------- stages


def stage_table(view: View, best: Prediction, state: PlacementState, width: int, rows: int) -> Block:
    """Return the stages of the best, and beside them (on a narrow screen: instead of them) those of the draft."""
    own = state.own()
    both = width >= 76
    wide = width >= 110
    count = max(len(best.placement), len(own)) if own and both else len(own or best.placement)
    names = _name_width(width, own=own is not None, both=both, wide=wide)
    figures = _best_columns(width) if own is None else len(_LEFT) if wide else 2
    block: Block = [_head(names, figures, own=own is not None, both=both, wide=wide)]
    room = max(1, rows - 1)
    cursor = max(0, min(state.cursor, count - 1))
    start = max(0, min(cursor - room // 2, count - room))
    for i in range(start, min(count, start + room)):
        chosen = i == cursor
        mark = (">" if chosen and state.pane == "stages" else "·" if chosen else " ", "cursor-mark")
        spans: list[Span] = [mark, (pad(str(i + 1), 3, ">") + " ", "dim")]
        if own is None or both:
            spans += _best_cells(view, best, i, names, chosen, figures)
        if own is not None:
            spans += [(" │ ", "frame")] if both else []
            spans += _own_cells(view, best.placement, state, i, names, chosen, wide=wide)
        block.append(tuple(spans))
    if start + room < count:
        block[-1] = line((f"   ⋮ {count - start - room + 1} more stages", "dim"))
    return block


def _name_width(width: int, *, own: bool, both: bool, wide: bool) -> int:
    if not own:
        figures = _best_columns(width)
        return max(10, min(28, width - 16 - (8 if figures > 2 else 6) * figures))
    if not both:
        return max(10, min(28, width - 32))
    return max(10, min(26, (width - (89 if wide else 56)) // 2))


def _best_columns(width: int) -> int:
    """Columns of the best alone: some figures a stage."""
    return len(_LEFT) if width >= 72 else 3 if width >= 50 else 2


def _head(names: int, figures: int, *, own: bool, both: bool, wide: bool) -> Line:
    text = " " + pad("ST", 3, ">") + " "
    if both or not own:
        short = figures < 3
        titles = ("comp", "hop") if short else _LEFT[:figures]
        text += pad("LAYERS", 8) + pad("NODE best" if own else "NODE", names + 2)
        text += "".join(pad(title, 6 if short else 8, ">") for title in titles)
    if own:
        size = 8 if wide else 6
        text += (" │ " if both else "") + pad("LAYERS", 8) + pad("NODE what-if", names)
        text += pad("COMP ms" if wide else "comp", size, ">") + pad("HOP ms" if wide else "hop", size, ">")
        text += pad("VRAM", 6, ">")
    return line((text, "head"))


def _best_cells(view: View, best: Prediction, i: int, names: int, chosen: bool, figures: int) -> list[Span]:
    size = 8 if figures > 2 else 6
    if i >= len(best.stages):
        return [(" " * (8 + 2 + names + size * figures), "")]
    stage, cost = best.placement[i], best.stages[i]
    word = _word(view, cost.node)
    free = cost.memory_free_bytes / BYTES_PER_GIB
    cells: list[Span] = [
        (quantities.figure(cost.compute_ms), "compute"),
        (quantities.figure(cost.hop_ms), "network"),
        (quantities.figure(cost.memory_bytes / BYTES_PER_GIB), ""),
        (quantities.figure(free), "warn" if free < 0 else "dim"),
    ]
    return [
        (pad(f"{stage.first}-{stage.last}", 8), ""),
        (f"{GLYPH[word]} ", word),
        (pad(clean(cost.node), names), "strong" if chosen else ""),
        *((pad(text, size, ">"), role) for text, role in cells[:figures]),
    ]


def _own_cells(
    view: View, before: Placement, state: PlacementState, i: int, names: int, chosen: bool, *, wide: bool
) -> list[Span]:
    own, found = state.own(), state.prediction()
    if own is None or i >= len(own):
        return [("", "")]
    stage = own[i]
    old = before[i] if i < len(before) else None
    known = old is not None and old.node == stage.node
    layers = f"{stage.first}-{stage.last}"
    moved = old is None or (old.first, old.last) != (stage.first, stage.last)
    cost = found.stages[i] if found is not None and i < len(found.stages) else None
    waiting = "…" if not state.why_not() else quantities.UNMEASURED
    size = 8 if wide else 6
    share = "…" if cost is None else memory_share(cost.memory_bytes, cost.memory_bytes + cost.memory_free_bytes)
    over = cost is not None and cost.memory_free_bytes < 0
    return [
        (pad(layers, 8), "strong" if moved else "dim"),
        (pad("=" if known else clean(stage.node), names), "dim" if known else "strong" if chosen else ""),
        (pad(quantities.figure(cost.compute_ms) if cost else waiting, size, ">"), "compute"),
        (pad(quantities.figure(cost.hop_ms) if cost else waiting, size, ">"), "network"),
        (pad(share if cost else waiting, 6, ">"), "error" if over else "dim"),
    ]


def _word(view: View, node: str) -> str:
    try:
        return view.word(view.swarm.index(node))
    except KeyError:  # the plan is for a frame that still had this node
        return "lost"


def memory_share(used: float, whole: float) -> str:
    return (
        quantities.UNMEASURED
        if not math.isfinite(used / whole if whole else math.nan)
        else f"{100 * used / whole:.0f}%"
    )


# ---------------------------------------------------------------- bars


def token_bars(best: Prediction, state: PlacementState, width: int) -> Block:
    """Return where the mean token's time goes, both on one scale; the last line explains the shades."""
    found = state.prediction()
    shown = [("best", best), *([("what-if", found)] if found is not None else [])]
    longest = max(sum(_numbers(p)) for _, p in shown)
    numbers = width >= 100
    room = max(10, width - (62 if numbers else 22))
    block: Block = []
    for name, prediction in shown:
        values = _numbers(prediction)
        total = sum(values)
        cells = stacked([(n, glyph) for n, (_, glyph, _) in zip(values, _PARTS, strict=True)], longest, room)
        bar: Line = tuple((glyph * n, role) for (glyph, n), (_, _, role) in zip(cells, _PARTS, strict=True) if n)
        end = [line((glyph, role), f" {quantities.figure(n)}")
               for n, (_, glyph, role) in zip(values, _PARTS, strict=True) if n > 0] if numbers else []  # fmt: skip
        blank = " " * (room - sum(n for _, n in cells))
        block.append(line((f" {pad(name, 8)} ", "dim"), *bar, blank, " ", (pad(quantities.figure(total), 7), "strong"),
                          *fill_line(end, 44, "  ")))  # fmt: skip
    values = _numbers(shown[-1][1])
    whole = sum(values)
    legend = [
        line((glyph, role), f" {name}" + ("" if numbers else f" {quantities.figure(n)}"),
             (f" {quantities.percent(n / whole if whole else None)}", "dim"))
        for n, (name, glyph, role) in zip(values, _PARTS, strict=True) if n > 0
    ]  # fmt: skip
    block.append(line(" " * 10, *fill_line(legend, width - 10, "  ")))
    return block


def _numbers(prediction: Prediction) -> tuple[float, float, float, float]:
    parts = prediction.breakdown_ms
    return parts.compute, parts.network, parts.overhead, parts.head


# ---------------------------------------------------------------- candidates


def candidate_table(state: PlacementState, width: int, rows: int, *, alone: bool = False) -> Block:
    """Return the nodes that could replace the chosen stage. `alone`: the table itself must say which stage that is."""
    names = max(12, min(24, width - 44))
    title = f" CANDIDATES stage {state.cursor + 1}" if width >= 76 or alone else " NODE"
    head = pad(title, names + 3) + pad("Δ tok/s", 9, ">") + pad("comp", 7, ">") + pad("hop", 6, ">")
    block: Block = [line((head + pad("VRAM", 6, ">") + "  RISK", "head"))]
    study = state.study
    if study is None:
        return [*block, line(("   computing candidates…", "dim"))]
    found = study.candidates
    if not found:
        said = study.why_not or f"no other node fits in place of stage {study.stage + 1}"
        return [*block, *(line("   ", *row) for row in wrap(clean(said, 300), width - 4, "dim"))]
    room = max(1, rows - 1)
    pick = max(0, min(state.pick, len(found) - 1))
    start = max(0, min(pick - room // 2, len(found) - room))
    for i in range(start, min(len(found), start + room)):
        block.append(_candidate_line(found[i], names, chosen=state.pane == "candidates" and i == pick))
    if start + room < len(found):
        block[-1] = line((f"   … {len(found) - start - room + 1} more", "dim"))
    return block


def _candidate_line(candidate: Candidate, names: int, *, chosen: bool) -> Line:
    gain = candidate.gain_tokens_per_s
    share = candidate.memory_share
    return (
        (" > " if chosen else "   ", "cursor-mark"),
        (pad(clean(candidate.node), names), "strong" if chosen else ""),
        (pad(signed(gain), 9, ">"), "ok" if gain > 0 else "warn"),
        (pad(quantities.figure(candidate.compute_ms), 7, ">"), "compute"),
        (pad(quantities.figure(candidate.hop_ms), 6, ">"), "network"),
        (pad(f"{100 * share:.0f}%" if share is not None else quantities.UNMEASURED, 6, ">"), "dim"),
        ("  " + (", ".join(candidate.risks) or quantities.UNMEASURED), "warn" if candidate.risks else "dim"),
    )


def signed(value: float) -> str:
    """Return `+0.23`, `-1.10`; what rounds to nothing is `±0`."""
    text = quantities.figure(abs(value))
    return "±0" if text in ("0", "0.00") else f"{'+' if value > 0 else '−'}{text}"


def change_lines(lines: Sequence[str], moved_bytes: float) -> Block:
    block: Block = [line((clean(text, 200), "")) for text in lines] or [line(("the same as the best", "dim"))]
    if moved_bytes:
        block.append(line((f"weights to load: {quantities.gib(moved_bytes)}", "dim")))
    return block
