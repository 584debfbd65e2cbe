"""Verify windows in flight, event by event: what the forecast's recursion is compared with.

A drafter, a coordinator and stations that each work through a queue. Nothing here is shared with the forecast.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

DRAFT = -1  # what a machine works on when it is no window


@dataclass
class _Machine:
    queue: deque[tuple[int, float]] = field(default_factory=deque)
    busy: bool = False


def simulate(
    draft_ms: float,
    service_ms: Sequence[float],
    delay_ms: Sequence[float],
    outcomes: Sequence[int],
    windows: int,
    *,
    shared: bool,
) -> tuple[float, float]:
    """Return (ms per token, windows per token) over len(outcomes) windows. `shared`: the first machine drafts."""
    machines = [_Machine() for _ in service_ms]
    drafter = machines[0] if shared else _Machine()
    order, events = 0, []
    in_flight, sent, epoch, draft_epoch = 0, 0, 0, 0
    waiting = False  # a drafted window that has no place in flight
    valid_of: dict[int, tuple[int, bool]] = {}
    tokens = taken = counted = 0
    last_home = 0.0
    missed = False  # and nobody has sent a valid window since

    def at(when: float, rank: int, kind: str, window: int, station: int) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (when, rank, order, kind, window, station))

    def begin(machine: _Machine, now: float, station: int) -> None:
        if not machine.busy and machine.queue:
            window, length = machine.queue.popleft()
            machine.busy = True
            at(now + length, 1, "done", window, station)

    def want_draft(now: float) -> None:
        nonlocal draft_epoch
        draft_epoch = epoch
        drafter.queue.append((DRAFT, draft_ms))
        begin(drafter, now, 0 if shared else DRAFT)

    def send(now: float) -> None:
        nonlocal in_flight, sent, waiting, missed
        waiting = False
        valid_of[sent] = (epoch, not missed)
        if missed and draft_epoch == epoch:
            missed = False
            valid_of[sent] = (epoch, True)
        in_flight += 1
        sent += 1
        at(now, 0, "arrive", sent - 1, 0)

    want_draft(0.0)
    while events:
        now, _, _, kind, window, station = heapq.heappop(events)
        if kind == "arrive":
            machines[station].queue.append((window, service_ms[station]))
            begin(machines[station], now, station)
            if station == 0 and sent < len(outcomes):
                want_draft(now)  # behind the window that has just been sent
        elif kind == "done":
            machine = drafter if station == DRAFT or (window == DRAFT and shared) else machines[station]
            machine.busy = False
            begin(machine, now, station)
            if window != DRAFT:
                home = station == len(machines) - 1
                at(now + delay_ms[station], 0, "home" if home else "arrive", window, station + 1)
            elif draft_epoch != epoch:
                want_draft(now)  # it continued what is known to be wrong
            elif in_flight < windows:
                send(now)
            else:
                waiting = True
        else:
            in_flight -= 1
            sent_in, valid = valid_of[window]
            if valid and sent_in == epoch:
                got = outcomes[taken]
                taken += 1
                tokens += abs(got)
                last_home, counted = now, window + 1
                if got < 0:
                    epoch += 1
                    missed = True
                    if waiting:
                        waiting = False
                        want_draft(now)
            if waiting and in_flight < windows:
                send(now)
    return last_home / tokens, counted / tokens
