"""Draw advice: what would help, how certain the choice is, stand-bys, and latency against throughput."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarm_protocol.text import safe
from swarmtop.dashboard.lines.charts.series import smooth_bar
from swarmtop.dashboard.lines.styled import Block, Line, Span, clean, line, pad, text_width, wrap
from swarmtop.text import quantities

if TYPE_CHECKING:  # with the planner, which a first paint does not wait for
    from swarm_predict.advice.sensitivity import Gain
    from swarmtop.dashboard.state.advice import Advice

MAX_GAINS: Final = 8
WORTH_SHOWING: Final = 0.005  # of the time per token
MIN_BAR: Final = 6
WITH_RATE: Final = 44  # cells from which the speed stands beside what is saved
_LEVELS: Final = {"good": "ok", "usable": "strong", "slow": "warn", "no": "error"}


def gains_of(advice: Advice, node: str | None = None) -> list[Gain]:
    """Return the gains worth showing, the best first; of one node if `node` is given."""
    if advice.judged is None:
        return []
    least_ms = WORTH_SHOWING * advice.prediction.tpot_ms.p50
    worth = [gain for gain in advice.judged.gains if gain.gain_ms > least_ms and node in (None, gain.node)]
    return worth[:MAX_GAINS]


def helps(advice: Advice, width: int, rows: int, node: str | None = None) -> Block:
    """Draw a line for each change alone: the time it saves, as a bar, and the speed with it."""
    found = gains_of(advice, node)
    if not found:
        return []
    names = 0 if node else min(20, max(text_width(safe(gain.node or "all")) for gain in found)) + 2
    figure = 10
    rate = 12 if width >= WITH_RATE else 0
    widest = max(text_width(gain.change) for gain in found)
    beside = width - names - figure - rate
    beside_bar = beside - (MIN_BAR if rate else 0)
    # a bar of how much it saves gives way to what it is
    changes = min(widest + 2, max(12, beside_bar if widest <= beside_bar else beside))
    room = width - names - changes - figure - rate
    most = max(gain.gain_ms for gain in found)
    block: Block = []
    for gain in found[:rows]:
        spans: list[Span] = [(pad(safe(gain.node or "all"), names), "strong")] if names else []
        spans.append((pad(clean(gain.change, 60), changes), ""))
        spans.append((pad(quantities.signed_ms(-gain.gain_ms).replace("-", "−"), figure, ">"), "ok"))
        if room >= MIN_BAR:
            spans.append((" " + smooth_bar(gain.gain_ms / most, room - 1), "ok"))
        if rate:
            spans.append((pad(quantities.rate(gain.tokens_per_s), rate, ">"), "dim"))
        block.append(tuple(spans))
    return block


def sure(advice: Advice, width: int) -> Block:
    """Draw in how many draws the plan is the best, and what to measure first; nothing if nothing is assumed."""
    choice = advice.sure
    if choice is None:
        return []
    block: Block = []
    if choice.runner_up is not None:
        rival = ", ".join(f"{safe(stage.node)}:{stage.first}-{stage.last}" for stage in choice.runner_up)
        best = quantities.percent(choice.share_best)
        block += wrap(f"best in {best} of the draws; the runner-up is {rival}", width)
    if choice.measure_next:
        block.append(line(("measure first: it narrows the interval by", "dim")))
        for each in choice.measure_next:
            where = f"{safe(each.node)} → {safe(each.to)}" if each.to else safe(each.node)
            share = quantities.percent(each.narrows)
            room = max(MIN_BAR, width // 3)
            text = f" {each.what} of {where}"
            block.append(
                line(
                    (pad(text, max(8, width - room - 7)), ""),
                    (pad(share, 6, ">") + " ", "strong"),
                    (smooth_bar(each.narrows, room), "cell-bar"),
                )
            )
    return block


def verdicts(advice: Advice, width: int) -> Block:
    """Draw the uses that this speed is enough for."""
    if advice.judged is None:
        return []
    block: Block = []
    for each in advice.judged.verdicts:
        head: Line = ((pad(each.workload, 12), "strong"), (pad(each.level, 8), _LEVELS.get(each.level, "")))
        first, *rest = wrap(clean(each.why, 300), max(10, width - 20), "dim") or [()]
        block += [(*head, *first), *[((" " * 20, ""), *row) for row in rest]]
    if advice.judged.batch is not None:
        more = advice.judged.batch
        total, single = quantities.rate(more.total_tokens_per_s), quantities.rate(more.tokens_per_s)
        block += wrap(f"for more throughput: --batch {more.batch} gives {total} ({single} each)", width, "dim")
    return block


def if_lost(advice: Advice, width: int) -> Block:
    """Draw for each machine of the best plan the speed after its loss: with a stand-by, and re-planned."""
    if not advice.losses:
        return []
    names = min(20, max(8, max(text_width(safe(loss.node)) for loss in advice.losses)))
    by = min(20, max(8, *(text_width(safe(loss.stand_by or "nobody alone")) for loss in advice.losses)))
    head = f"{pad('LOST', names)}  {pad('STAND-BY', by)} {pad('tok/s', 7, '>')} {pad('RE-PLANNED', 13, '>')}"
    wide = width >= len(head) + 13
    block: Block = [line((head + (pad("LAYERS MOVE", 13, ">") if wide else ""), "head"))]
    for loss in advice.losses:
        stand_by = quantities.figure(1e3 / loss.stand_by_ms) if loss.stand_by_ms else quantities.UNMEASURED
        again = quantities.figure(1e3 / loss.replanned_ms) if loss.replanned_ms else "does not fit"
        moved = str(loss.moved_layers) if loss.moved_layers is not None else quantities.UNMEASURED
        spans: list[Span] = [
            (pad(safe(loss.node), names), ""),
            ("  " + pad(safe(loss.stand_by or "nobody alone"), by), "" if loss.stand_by else "warn"),
            (" " + pad(stand_by, 7, ">"), "strong"),
            (" " + pad(again, 13, ">"), "error" if loss.replanned_ms is None else ""),
        ]
        if wide:
            spans.append((pad(moved, 13, ">"), "dim"))
        block.append(tuple(spans))
    return block


def front(advice: Advice, width: int, batch: int = 1) -> Block:
    """Placements of which no other is better both for one stream and in total, each with two bars; nothing for one."""
    if len(advice.front) < 2:
        return []
    rows = [(1e3 / point.step_ms, point.tokens_per_s(batch), point) for point in advice.front]
    most_each, most_total = max(each for each, _, _ in rows), max(total for _, total, _ in rows)
    bar = max(4, min(16, (width - 30) // 4))
    head = f"{pad('EACH tok/s', bar + 7)} {pad('TOTAL tok/s', bar + 7)} {pad('IN FLIGHT', 10)} STAGES"
    block: Block = [line((head, "head"))]
    for each, total, point in rows:
        names = " ".join(f"{safe(stage.node)}:{stage.layers}" for stage in point.placement)
        block.append(
            line(
                (pad(quantities.figure(each), 6, ">") + " ", "strong"),
                (smooth_bar(each / most_each, bar) + " ", "spark"),
                (pad(quantities.figure(total), 6, ">") + " ", "strong"),
                (smooth_bar(total / most_total, bar) + " ", "chart"),
                (pad(str(point.streams), 10), ""),
                (names, "dim"),
            )
        )
    return block
