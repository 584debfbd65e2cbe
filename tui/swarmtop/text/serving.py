"""Format answers for many users as text for people and as the JSON object that scripts rely on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from swarm_predict.serving.intervals import Interval
from swarm_predict.serving.queueing.distributions import Spread
from swarm_predict.serving.replica_planning import Candidate, Role, ServingPlan
from swarm_predict.serving.replicas import Point
from swarm_predict.serving.serve import Replica, Serving
from swarm_predict.serving.shared_machines import SharedMachine
from swarm_predict.serving.speculation_break_even import Drafting
from swarm_predict.types import Placement
from swarm_protocol.text import safe
from swarmtop.text import quantities
from swarmtop.text.prediction import table, wrapped

SCHEMA: Final = 1
AT_THE_EDGE: Final = (
    "at the edge: if machines and paths are as slow as they may be, these requests are not sustained and times have no "
    "upper end"
)
SECONDS_A_MINUTE: Final = 60
UNITS: Final = (("s", 1), ("min", 60), ("h", 3600))


def serving_object(found: Serving) -> dict[str, object]:
    """Infinite times, of a queue that grows without bound, are null."""
    return {
        "schema": SCHEMA,
        "arrivals_per_s": found.arrivals_per_s,
        "sustained": found.sustained,
        "most_per_s": found.most_per_s,
        "tokens_per_s": found.tokens_per_s,
        "most_tokens_per_s": found.most_tokens_per_s,
        "queue_grows_per_s": found.grows_per_s,
        "tpot_ms": _spread(found.tpot_ms),
        "ttft_ms": _spread(found.ttft_ms),
        "tpot_interval_ms": _interval(found.tpot_interval),
        "ttft_interval_ms": _interval(found.ttft_interval),
        "at_the_edge": found.at_the_edge,
        "queue_ms": _spread(found.queue_ms),
        "sequences": found.sequences,
        "waiting": _finite(found.waiting),
        "replicas": [_replica(each) for each in found.replicas],
        "front": [_point(each) for each in found.front],
        "shared": [_shared(each) for each in found.shared],
        "drafting": None if found.drafting is None else _drafting(found.drafting),
        "notes": list(found.notes),
    }


def plan_object(plan: ServingPlan) -> dict[str, object]:
    """The keys that `plan --arrivals` has beside `serving`."""
    return {
        "candidates": [_candidate(each) for each in plan.candidates],
        "roles": [
            {
                "node": each.node,
                "replica": each.replica,
                "first": None if each.replica is None else each.first,
                "last": None if each.replica is None else each.last,
                "busy": each.busy,
                "worth": each.worth,
            }
            for each in plan.roles
        ],
        "exact": plan.exact,
    }


def _spread(found: Spread) -> dict[str, float | None]:
    return {"mean": _finite(found.mean), "p50": _finite(found.p50), "p95": _finite(found.p95)}


def _interval(found: Interval) -> dict[str, float | None]:
    """Of the mean; null: the queue may grow without bound."""
    return {"p5": _finite(found.p5), "p95": _finite(found.p95)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _stages(placement: Placement) -> list[dict[str, object]]:
    return [{"node": stage.node, "first": stage.first, "last": stage.last} for stage in placement]


def _replica(each: Replica) -> dict[str, object]:
    return {
        "placement": _stages(each.placement),
        "share": each.share,
        "most_per_s": each.most_per_s,
        "sequences": each.served.sequences,
        "most_sequences": each.most_sequences,
        "micro_batches": each.micro_batches,
        "limited_by": each.limited_by,
        "prompts_limited_by": each.prompts_by,
        "tokens_limited_by": each.tokens_by,
        "busy": [{"name": part.name, "share": part.share} for part in each.busy],
    }


def _point(each: Point) -> dict[str, object]:
    return {
        "arrivals_per_s": each.arrivals_per_s,
        "tokens_per_s": each.tokens_per_s,
        "tpot_ms": _spread(each.tpot_ms),
        "ttft_ms": _spread(each.ttft_ms),
        "queue_ms": _spread(each.queue_ms),
    }


def _shared(each: SharedMachine) -> dict[str, object]:
    return {
        "node": each.node,
        "layers": [{"first": stage.first, "last": stage.last} for stage in each.stages],
        "layers_in_common": each.twice,
        "busy": each.busy,
    }


def _drafting(each: Drafting) -> dict[str, object]:
    """`pays_to_per_s`: null where guessing pays at every rate that is sustained, 0 where it never does."""
    return {
        "guesses": each.guesses,
        "windows": each.windows,
        "tokens_a_pass": each.tokens_a_pass,
        "pays_to_per_s": _finite(each.pays_to_per_s),
        "filled": each.filled or None,
        "without": {"most_per_s": each.without_most_per_s, "tpot_ms": _finite(each.without_tpot_ms)},
    }


def _candidate(each: Candidate) -> dict[str, object]:
    return {
        "placements": [_stages(placement) for placement in each.placements],
        "most_per_s": each.most_per_s,
        "most_tokens_per_s": each.most_tokens_per_s,
        "draft_tokens": each.guesses,
        "windows": each.windows,
        "light_tpot_ms": each.light_tpot_ms,
        "tpot_ms": None if each.tpot_ms is None else _spread(each.tpot_ms),
        "ttft_ms": None if each.ttft_ms is None else _spread(each.ttft_ms),
        "within_per_s": each.within_per_s,
    }


# ---------------------------------------------------------------- for people


def serving_text(found: Serving, width: int) -> str:
    """Describe what users get, the load of each part, and the same with fewer or more users."""
    lines = [*_summary(found, width), "", *_busy_table(found), ""]
    lines += ["at other request rates", *_front_table(found)]
    lines += ["", "assumed about the users", *(line for note in found.notes for line in wrapped(note, width))]
    return "\n".join(lines) + "\n"


def too_many(found: Serving) -> str:
    """Say in one line that the queue grows without bound."""
    a_minute = found.grows_per_s * SECONDS_A_MINUTE
    return (
        f"{_rate(found.arrivals_per_s)} arrive and at most {_rate(found.most_per_s)} are served: the queue grows by "
        f"{quantities.figure(a_minute)} requests a minute; add machines or replicas, or take fewer requests"
    )


def _summary(found: Serving, width: int) -> list[str]:
    most = f"at most {_rate(found.most_per_s)}, {quantities.rate(found.most_tokens_per_s)}"
    state = "sustained" if found.sustained else "not sustained"
    lines = [f"many users    {_rate(found.arrivals_per_s)}: {state} ({most})"]
    tpot, ttft = found.tpot_ms, found.ttft_ms
    lines.append(f"per token     {_mean(tpot, found.tpot_interval)}, p95 {quantities.ms(tpot.p95)}")
    if found.sustained:
        queue = found.queue_ms
        lines += [
            f"first token   {_mean(ttft, found.ttft_interval)}, p95 {quantities.ms(ttft.p95)}; of it in the queue "
            f"{quantities.ms(queue.mean)}, p95 {quantities.ms(queue.p95)}",
            f"throughput    {quantities.rate(found.tokens_per_s)}; {quantities.figure(found.sequences)} requests in "
            f"flight, {quantities.figure(found.waiting)} waiting for memory",
        ]
    edge = [AT_THE_EDGE] if found.at_the_edge else []
    said = [*edge, *_limits(found), *_one_more(found)]
    said += [_drafting_line(found, found.drafting)] if found.drafting is not None else []
    said += [_shared_line(each) for each in found.shared]
    return [*lines, *(part for line in said for part in wrapped(line, width, ""))]


def _mean(times: Spread, interval: Interval) -> str:
    """Write a mean with its interval, which may have no upper end."""
    if not math.isfinite(interval.p5):
        return quantities.ms(times.mean)
    if not math.isfinite(interval.p95):
        return f"{quantities.ms(times.mean)} ({quantities.figure(interval.p5)} or more)"
    return quantities.spread(interval.p5, times.mean, interval.p95, "ms")


def _limits(found: Serving) -> list[str]:
    """Say what prompts, tokens and further requests are limited by, of each replica where they differ."""
    limits = [
        f"prompts are limited by {safe(each.prompts_by)}, tokens by {safe(each.tokens_by)}, more requests by "
        f"{safe(each.limited_by)}"
        for each in found.replicas
    ]
    if len(set(limits)) == 1:
        return limits[:1]
    return [f"replica {number}: {line}" for number, line in enumerate(limits, 1)]


def _one_more(found: Serving) -> list[str]:
    """Say what a tenth more requests would do to everybody."""
    if not found.sustained:
        return []
    more = found.more
    if more is None:
        return [f"a tenth more requests would not be sustained; less than {_rate(found.most_per_s)} are"]
    return [
        f"a tenth more requests: a token {quantities.ms(more.tpot_ms.mean)}, the first one "
        f"{quantities.ms(more.ttft_ms.mean)}, {quantities.rate(more.tokens_per_s)} in total"
    ]


def _drafting_line(found: Serving, each: Drafting) -> str:
    """Say up to which rate guessing pays, and what it would be without."""
    passes = f"each pass give a sequence {each.tokens_a_pass:.2f} tokens"
    if each.windows > 1:
        passes = f"each of {each.windows} windows in flight give a sequence {each.tokens_a_pass:.2f} tokens a round"
    windows = f"{each.guesses} draft tokens in {passes}"
    without = f"without draft tokens at most {_rate(each.without_most_per_s)}"
    if math.isfinite(each.without_tpot_ms):
        without += f", and now {quantities.ms(each.without_tpot_ms)} a token"
    if each.pays_to_per_s <= 0:
        return f"{windows}, but drafting never pays here: answers take less without, even with nobody else; {without}"
    if math.isinf(each.pays_to_per_s):
        return f"{windows}; drafting pays at every rate that is sustained; {without}"
    turns = _rate(each.pays_to_per_s)
    now = " (as now)" if found.arrivals_per_s > each.pays_to_per_s else ""
    return (
        f"{windows}; drafting pays up to {turns}: with more requests{now} answers take less without, since verifying "
        f"{each.windows * (each.guesses + 1)} tokens for each sequence fills {safe(each.filled)}; {without}"
    )


def _shared_line(each: SharedMachine) -> str:
    layers = " and ".join(dict.fromkeys(f"{stage.first}-{stage.last}" for stage in each.stages))
    once = f", {each.twice} of them used by both but held once" if each.twice else ""
    return (
        f"{safe(each.node)} serves layers {layers} in {len(each.stages)} placements{once}: busy "
        f"{quantities.percent(each.busy)} of the time with all of them"
    )


def _rate(per_s: float, like: float | None = None) -> str:
    """Requests in a unit in which there is about one or more, or in which `like` would be written."""
    unit, times = next(
        (unit, times) for unit, times in UNITS if (per_s if like is None else like) * times >= 1 or unit == "h"
    )
    return f"{quantities.figure(per_s * times)}/{unit}"


def _busy_table(found: Serving) -> list[str]:
    titles = ("REPLICA", "NODE", "LAYERS", "BUSY", "UPLINK", "CONCURRENT", "MICRO-BATCHES", "REQUESTS")
    rows = []
    for number, each in enumerate(found.replicas, 1):
        busy = {part.name: part.share for part in each.busy}
        for k, stage in enumerate(each.placement):
            whole = (str(each.most_sequences), str(each.micro_batches), quantities.percent(each.share))
            rows.append(
                (
                    str(number),
                    safe(stage.node),
                    f"{stage.first}-{stage.last}",
                    quantities.percent(busy.get(stage.node)),
                    quantities.percent(busy.get(f"{stage.node}'s uplink")),
                    *(whole if k == 0 else ("", "", "")),
                )
            )
    return table(titles, rows, words={1})


def _front_table(found: Serving) -> list[str]:
    titles = ("REQUESTS", "TOTAL tok/s", "PER TOKEN ms", "p95", "FIRST ms", "p95", "QUEUE p95 ms")
    return table(titles, [_front_row(each, found.most_per_s) for each in found.front], words=set())


def _front_row(each: Point, like: float) -> tuple[str, ...]:
    return (
        _rate(each.arrivals_per_s, like),
        quantities.figure(each.tokens_per_s),
        quantities.figure(each.tpot_ms.mean),
        quantities.figure(each.tpot_ms.p95),
        quantities.figure(each.ttft_ms.mean),
        quantities.figure(each.ttft_ms.p95),
        quantities.figure(each.queue_ms.p95),
    )


def plan_text(plan: ServingPlan, width: int) -> str:
    """The plan's candidates and what each machine is best for, below what the chosen one gives."""
    limit = any(each.within_per_s is not None for each in plan.candidates)
    drafts = any(each.guesses for each in plan.candidates)
    titles = (
        *(["DRAFT"] if drafts else []),
        "ALONE ms",
        "TOKEN ms",
        "FIRST p95 ms",
        "AT MOST",
        "TOTAL tok/s",
        *(["IN LIMIT"] if limit else []),
        "REPLICAS",
    )
    rows = [(*([str(each.guesses)] if drafts else []), *_candidate_row(each, limit)) for each in plan.candidates]
    lines = ["between the quickest token and the most requests"]
    lines += [quantities.fit(line, width).rstrip() for line in table(titles, rows, words={len(titles) - 1})]
    lines += ["", *_role_table(plan.roles)]
    return "\n".join(lines) + "\n"


def _candidate_row(each: Candidate, limit: bool) -> tuple[str, ...]:
    names = " | ".join(
        " ".join(f"{safe(stage.node)}:{stage.layers}" for stage in placement) for placement in each.placements
    )
    within = (_rate(each.within_per_s) if each.within_per_s else quantities.UNMEASURED,) if limit else ()
    return (
        quantities.figure(each.light_tpot_ms),
        quantities.figure(None if each.tpot_ms is None else each.tpot_ms.mean),
        quantities.figure(None if each.ttft_ms is None else each.ttft_ms.p95),
        _rate(each.most_per_s),
        quantities.figure(each.most_tokens_per_s),
        *within,
        names,
    )


def _role_table(roles: Sequence[Role]) -> list[str]:
    rows = [
        (
            safe(each.node),
            f"replica {each.replica}" if each.replica is not None else "spare",
            f"{each.first}-{each.last}" if each.replica is not None else quantities.UNMEASURED,
            quantities.percent(each.busy) if each.replica is not None else quantities.UNMEASURED,
            quantities.percent(each.worth),
        )
        for each in roles
    ]
    return table(("NODE", "SERVES IN", "LAYERS", "BUSY", "LOST WITHOUT IT"), rows, words={0, 1})
