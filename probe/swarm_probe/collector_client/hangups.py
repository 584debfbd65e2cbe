"""Decide how long to avoid a collector that sent too much: longer each time, also across restarts.

`hangups.json` in the state folder holds it, by collector. After a day without another one everything is forgotten. Time
is passed in; a clock that was set cannot make a wait longer than its limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from swarm_probe.owner_limits.traffic_budget import BACK_SHARE, TrafficBudget
from swarm_protocol.units import NS_PER_S

FIRST_S: Final = 60.0
MAX_S: Final = 6 * 3600.0
FORGIVEN_S: Final = 86_400.0  # since the last one, in addition to its wait
MAX_COLLECTORS: Final = 64
STATE_FILE: Final = "hangups.json"

Kind = Literal["rate", "day"]


class Strike(msgspec.Struct, frozen=True):
    count: int
    at_ns: int
    wait_s: float
    kind: Kind
    why: str


class Strikes(msgspec.Struct):
    collector: str = ""
    folder: Path | None = None
    _all: dict[str, Strike] = msgspec.field(default_factory=dict)

    @classmethod
    def open(cls, collector: str, folder: Path) -> Strikes:
        """Read the file. An unreadable file counts as empty: the bytes themselves are in the traffic budget."""
        try:
            kept = msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=dict[str, Strike])
        except (OSError, msgspec.DecodeError):
            kept = {}
        return cls(collector, folder, kept)

    @property
    def last(self) -> Strike | None:
        return self._all.get(self.collector)

    def wait_s(self, now_ns: int) -> float:
        """Return how long from now to stay away from this collector."""
        last = self.last
        if last is None:
            return 0.0
        passed_s = (now_ns - last.at_ns) / NS_PER_S
        return min(max(0.0, last.wait_s - passed_s), last.wait_s, MAX_S)

    def add(self, kind: Kind, why: str, now_ns: int) -> float:
        """Note a hang-up on this collector; return how long to stay away."""
        last = self.last
        fresh = last is None or now_ns - last.at_ns > (FORGIVEN_S + last.wait_s) * NS_PER_S
        count = 1 if last is None or fresh else last.count + 1
        wait_s = min(MAX_S, FIRST_S * 2.0 ** min(count - 1, 30))
        self._all.pop(self.collector, None)
        self._all[self.collector] = Strike(count, now_ns, wait_s, kind, why)
        while len(self._all) > MAX_COLLECTORS:
            del self._all[next(iter(self._all))]
        self._write()
        return wait_s

    def _write(self) -> None:
        if self.folder is None:
            return
        try:
            draft = self.folder / f"{STATE_FILE}.new"
            draft.write_bytes(msgspec.json.encode(self._all))
            draft.replace(self.folder / STATE_FILE)
        except OSError:  # it then holds until the end of this process
            return


def stay_away(strikes: Strikes, budget: TrafficBudget, day_used: str, now_ns: int) -> tuple[float, str]:
    """Return how long from now to stay away from the collector in seconds, because it sent too much or because the
    day's bytes are used up, and why. `day_used` says the latter."""
    last, over = strikes.last, budget.over(now_ns, BACK_SHARE)
    wait_s = budget.back_in_s(now_ns) if over else 0.0
    if last is not None and (last.kind == "rate" or over) and (left_s := strikes.wait_s(now_ns)) > 0:
        # a wait for the day's bytes ends early with a larger --daily-bytes
        return max(wait_s, left_s), last.why if last.kind == "rate" else day_used
    return wait_s, day_used
