"""Compute the time per token of a stream that keeps several verify windows in flight.

A window is drafted, passes stations in a fixed order (an uplink, a stage, the next uplink, …) and comes home. Windows
queue at a station and overlap everywhere else. The drafter works on one window at a time and finishes it. A window
whose guesses are not all right makes those behind it stale: they still occupy the stations and their places in flight,
and the next valid window is drafted once the miss is known (`cost.speculative` has the chances and sources).

`flow` follows a few hundred windows, for many variants of the times at once: exact for fixed times, as a test with a
discrete-event simulation shows. `least_ms` is a bound for any placement, for the certificate of a plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from swarm_predict.cost.speculative import Outcomes
from swarm_protocol.snapshot.swarm import Floats, Ints

WINDOWS: Final = 512  # followed; valid and stale ones together
_STRATUM: Final = 32  # outcomes of so many windows in a row have the given chances as nearly as they can
_MAX_RUN: Final = 4096  # windows between two misses that `least_ms` sums over
_CHANGES: Final = (
    0.2,
    0.3,
    0.4,
    0.5,
)  # relative, to see what a part of the time is worth: windows are whole, so it steps

Part = Literal["draft", "compute", "head", "software", "rtt", "jitter", "upload"]


@dataclass(frozen=True, slots=True)
class Route:
    """One window's way; arrays are (stations, variants), `draft_ms` is (variants,)."""

    draft_ms: Floats  # of a whole window
    service_ms: Floats  # that a window keeps each station
    delay_ms: Floats  # on the way from there, without holding up other windows
    drafter: int | None = None  # the first machine that a window meets, if it drafts as well; None: one of its own


@dataclass(frozen=True, slots=True)
class Flow:
    """The result of `flow`, (variants,) each."""

    ms_per_token: Floats
    windows_per_token: Floats  # sent, valid or not


def outcome_sequence(outcomes: Outcomes, count: int, seed: int = 0) -> Ints:
    """Draw `count` outcomes: the tokens of a window that others can follow, or minus the tokens of one that ends."""
    rng = np.random.default_rng(seed)
    chances = np.array([outcomes.goes_on, *outcomes.ends])
    yields = np.array([outcomes.tokens_on, *(-(n + 1) for n in range(len(outcomes.ends)))])
    blocks = -(-count // _STRATUM)
    uniform = (np.arange(_STRATUM) + rng.random((blocks, _STRATUM))) / _STRATUM
    uniform = rng.permuted(uniform, axis=1).ravel()[:count]
    return np.asarray(yields[np.searchsorted(np.cumsum(chances)[:-1], uniform, side="right")])


def flow(route: Route, outcomes: Ints, windows: int | Ints) -> Flow:
    """Follow `len(outcomes)` windows with at most `windows` in flight; valid ones take the outcomes in order.

    `outcomes` is (count,) or (count, variants), `windows` one number or (variants,)."""
    count, variants = len(outcomes), len(route.draft_ms)
    at_once, column = np.broadcast_to(windows, variants), np.arange(variants)
    yields = np.broadcast_to(outcomes.reshape(count, -1), (count, variants))
    zeros = np.zeros(variants)
    free = np.zeros_like(route.service_ms)
    back = np.zeros((count, variants))
    sent, tokens, sent_then = zeros.copy(), zeros.copy(), zeros.copy()
    last_home, valid_so_far = zeros.copy(), np.zeros(variants, np.int64)
    missed_at = np.full(variants, np.inf)  # when the pending miss is known at the head
    for number in range(count):
        place = np.where(number >= at_once, back[number - at_once, column], zeros)
        drafted = _drafted(route, free, sent)
        ready = np.maximum(drafted, place)
        again = missed_at <= ready  # what was drafted continues guesses that are known to be wrong
        if again.any():
            redrafted = _drafted(route, free, np.maximum(missed_at, drafted), again)
            ready = np.where(again, np.maximum(redrafted, place), ready)
        valid = again | np.isinf(missed_at)
        sent = at = ready
        for station in range(len(free)):
            free[station] = np.maximum(at, free[station]) + route.service_ms[station]
            at = free[station] + route.delay_ms[station]
        back[number] = at
        got = yields[valid_so_far, column]
        tokens += np.where(valid, np.abs(got), 0)
        last_home = np.where(valid, at, last_home)
        sent_then = np.where(valid, number + 1, sent_then)
        missed_at = np.where(valid, np.where(got > 0, np.inf, at), missed_at)
        valid_so_far += valid
    return Flow(last_home / tokens, sent_then / tokens)


def _drafted(
    route: Route, free: Floats, start: Floats, only: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
) -> Floats:
    """Return when the next window is drafted, which occupies the machine that it shares with a stage."""
    if route.drafter is None:
        return np.asarray(start + route.draft_ms)
    done = np.asarray(np.maximum(start, free[route.drafter]) + route.draft_ms)
    free[route.drafter] = done if only is None else np.where(only, done, free[route.drafter])
    return done


def least_ms(trip_ms: float, slowest_ms: float, draft_ms: float, outcomes: Outcomes, windows: int) -> float:
    """Return a time per token that no placement with at least this trip (without drafting) and this slowest station
    undercuts.

    Between two misses m windows are valid. The first is drafted and travels; each other one comes home no earlier than
    the slowest station or the draft allow after the one before, nor than one trip for every `windows` of them.
    """
    pace = max(slowest_ms, draft_ms)
    on = outcomes.goes_on
    if on >= 1:
        return max(pace, trip_ms / windows) / outcomes.tokens_on
    run = np.arange(_MAX_RUN)
    chance = (1 - on) * on**run
    cycle = draft_ms + trip_ms + np.maximum(run * pace, run // windows * trip_ms + run % windows * pace)
    tail = on**_MAX_RUN  # cycles longer than that count as the longest: a bound all the same
    mean = float(chance @ cycle) + tail * float(cycle[-1])
    valid = 1 / (1 - on)
    return mean / (outcomes.tokens_a_window * valid)


def worth(parts: Mapping[Part, Route], whole: Route, outcomes: Ints, windows: int) -> dict[Part, float]:
    """Return each part's share of the time per token, summing to 1.

    The time per token is homogeneous in all its times: it is the sum of the parts, each times how much the whole
    changes with it (Euler). A delay that windows in flight hide is worth nothing. Routes have one variant each."""
    names = list(parts)
    variants = [_sum(whole, parts[name], sign * by) for name in names for by in _CHANGES for sign in (1, -1)]
    joined = Route(
        np.concatenate([each.draft_ms for each in variants]),
        np.concatenate([each.service_ms for each in variants], axis=1),
        np.concatenate([each.delay_ms for each in variants], axis=1),
        whole.drafter,
    )
    found = flow(joined, outcomes, windows).ms_per_token.reshape(len(names), len(_CHANGES), 2)
    change = np.maximum((found[:, :, 0] - found[:, :, 1]).sum(axis=1), 0.0)
    total = float(change.sum())
    return {name: float(each) / total if total > 0 else 0.0 for name, each in zip(names, change, strict=True)}


def _sum(whole: Route, part: Route, factor: float) -> Route:
    return Route(
        whole.draft_ms + factor * part.draft_ms,
        whole.service_ms + factor * part.service_ms,
        whole.delay_ms + factor * part.delay_ms,
        whole.drafter,
    )


def slowest(route: Route, names: Sequence[str]) -> tuple[str, float]:
    """Return what a window waits for when enough are in flight: (station or `the draft`, ms of a window), by means."""
    busy = [*route.service_ms.mean(axis=1), float(route.draft_ms.mean())]
    if route.drafter is not None:
        busy[route.drafter] += float(route.draft_ms.mean())
    at = int(np.argmax(busy))
    return ([*names, "the draft"][at], float(busy[at]))
