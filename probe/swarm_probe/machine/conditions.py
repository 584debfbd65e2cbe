"""Detect when a measurement no longer holds: another driver, card or power limit, throttling, battery.

A change must last before it counts (GPUs throttle in bursts), and measurements keep a distance (a GPU near its limit
would be measured all day). Pure: time is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from swarm_probe.machine.gpu import GpuReading

LASTS_S: Final = 60.0
REST_S: Final = 900.0


class Conditions(msgspec.Struct, frozen=True):
    """The machine's conditions, as far as they change how long a layer takes."""

    cards: tuple[tuple[str, str, float | None, bool | None], ...] = ()  # name, driver, power limit, throttled
    on_battery: bool | None = None
    torch: str | None = None


def conditions(cards: Sequence[GpuReading], on_battery: bool | None, torch: str | None) -> Conditions:
    found = tuple((card.name, card.driver, card.power_limit_w, card.throttled) for card in cards)
    return Conditions(found, on_battery, torch)


class ConditionWatch:
    """`look` returns whether it is time to measure again; `measured` notes that it was done."""

    def __init__(self) -> None:
        self._held: Conditions | None = None  # during the last measurement
        self._seen: Conditions | None = None
        self._since_s = 0.0
        self._measured_s: float | None = None

    def measured(self, now_s: float) -> None:
        self._held, self._measured_s = self._seen, now_s

    def look(self, now: Conditions, now_s: float) -> bool:
        if now != self._seen:
            self._seen, self._since_s = now, now_s
        if self._measured_s is None:
            return False  # the first measurement comes anyway
        if self._held is None:
            self._held = now
        lasted = now_s - self._since_s >= LASTS_S
        return now != self._held and lasted and now_s - self._measured_s >= REST_S
