"""Limit the processor and GPU seconds that the probe uses in any hour and in any 24 hours.

The limit is the owner's (`--compute-budget`, `--gpu-budget`) and the probe enforces it: whatever the collector
requests, and under however many task ids, nothing is started without budget left, and whatever exceeds the budget is
stopped. It holds across restarts: `compute.json` records what was used, in pieces of five minutes, and an unreadable
file counts as a day's worth. A piece of the future (the clock was set back) counts too. Pure but for that file; time is
passed in.

Seconds of processor are those of all cores together, as `time` and `top` count them; the usual allowance grows with the
cores. Seconds of GPU are those in which the timing process has a GPU for itself, busy or not.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

import msgspec

from swarm_probe.operating_system.readings import reason
from swarm_protocol.units import NS_PER_S

# One measurement of a model takes about 20 s of each core or card, and so does an answer to a challenge at most: this
# is six of them in an hour, and in a day the four that are due anyhow, as many challenges, and the swarm's operator
# looking at a few other models.
USUAL_HOUR_S: Final = 120.0
USUAL_DAY_S: Final = 600.0
START_SHARE: Final = 1 / 6  # of the hour's that must be left to begin: less would be stopped before it has a result
DAY_TIMES: Final = 5.0  # the day's allowance over the hour's, where only the day's is given
PIECE_NS: Final = 300 * NS_PER_S
HOUR_PIECES: Final = 12
DAY_PIECES: Final = 288
STATE_FILE: Final = "compute.json"
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|min|h|)")
_UNITS_S: Final = {"s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Allowance(msgspec.Struct, frozen=True):
    """Allowed seconds; None: no limit."""

    hour_s: float | None
    day_s: float | None

    def times(self, count: int) -> Allowance:
        return Allowance(*(None if each is None else each * count for each in (self.hour_s, self.day_s)))

    def __str__(self) -> str:
        words = [
            f"{each:g} s {of}" for each, of in ((self.hour_s, "an hour"), (self.day_s, "a day")) if each is not None
        ]
        return " and ".join(words) or "no limit"


USUAL: Final = Allowance(USUAL_HOUR_S, USUAL_DAY_S)


class _File(msgspec.Struct):
    pieces: dict[int, tuple[float, float]] = {}  # number since 1970 → seconds of processor, of GPU


class ComputeBudget(msgspec.Struct):
    processor: Allowance
    gpu: Allowance
    folder: Path | None = None
    trouble: str | None = None  # why the record cannot be read or written, in one line
    _file: _File = msgspec.field(default_factory=_File)

    @classmethod
    def open(cls, processor: Allowance, gpu: Allowance, folder: Path, now_ns: int) -> ComputeBudget:
        """Continue where the record ends. A damaged one counts as a whole day's worth, used just now."""
        budget = cls(processor, gpu, folder)
        try:
            budget._file = msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=_File)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            budget.trouble = f"{folder / STATE_FILE} cannot be read ({reason(error)}); counted as a day's worth"
            budget._file = _File({now_ns // PIECE_NS: (processor.day_s or 0.0, gpu.day_s or 0.0)})
        return budget

    # ------------------------------------------------------------ usage

    def spend(self, processor_s: float, gpu_s: float, now_ns: int) -> None:
        piece = now_ns // PIECE_NS
        before = self._file.pieces.get(piece, (0.0, 0.0))
        self._file.pieces[piece] = before[0] + max(0.0, processor_s), before[1] + max(0.0, gpu_s)

    def used_s(self, now_ns: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return (processor, GPU), each in the last hour and in the last day, including the piece that began before."""
        piece = now_ns // PIECE_NS
        sums = [
            [sum(used[i] for at, used in self._file.pieces.items() if at >= piece - pieces) for i in (0, 1)]
            for pieces in (HOUR_PIECES, DAY_PIECES)
        ]
        return (sums[0][0], sums[1][0]), (sums[0][1], sums[1][1])

    def write(self, now_ns: int) -> None:
        """Write the record. Raises nothing."""
        piece = now_ns // PIECE_NS
        self._file.pieces = {at: used for at, used in self._file.pieces.items() if at >= piece - DAY_PIECES}
        if self.folder is None:
            return
        try:
            draft = self.folder / f"{STATE_FILE}.new"
            draft.write_bytes(msgspec.json.encode(self._file))
            draft.replace(self.folder / STATE_FILE)
            self.trouble = None
        except OSError as error:
            self.trouble = f"the record of computing cannot be written ({error.strerror})"

    # ------------------------------------------------------------ decisions

    def why_not(self, now_ns: int) -> str | None:
        """Return why nothing is begun now, in one line."""
        return self._over(now_ns, START_SHARE)

    def why_end(self, now_ns: int) -> str | None:
        """Return why what runs has to end now, in one line."""
        return self._over(now_ns, 0.0)

    def room_in_s(self, now_ns: int) -> float:
        """Return after how many seconds something may be begun, if nothing else is used until then."""
        for later in range(DAY_PIECES + 2):
            at_ns = now_ns if not later else (now_ns // PIECE_NS + later) * PIECE_NS
            if self.why_not(at_ns) is None:
                return (at_ns - now_ns) / NS_PER_S
        return math.inf  # an allowance of zero

    def _over(self, now_ns: int, share: float) -> str | None:
        limits = (self.processor, self.gpu)
        for what, limit, used in zip(("processor", "GPU"), limits, self.used_s(now_ns), strict=True):
            hour_s = limit.hour_s if limit.hour_s is not None else (limit.day_s or 0.0) / DAY_TIMES
            for most_s, used_s, of in ((limit.hour_s, used[0], "hour"), (limit.day_s, used[1], "day")):
                if most_s is not None and used_s >= most_s - share * min(hour_s, most_s):
                    return f"{used_s:.0f} of the {most_s:g} s of {what} that its owner allows in any {of} are used"
        return None

    def line(self, now_ns: int) -> str:
        """Return one line for `status`."""
        if self.trouble:
            return self.trouble
        words = []
        for what, limit, used in zip(
            ("processor", "GPU"), (self.processor, self.gpu), self.used_s(now_ns), strict=True
        ):
            each = zip(used, (limit.hour_s, limit.day_s), ("in an hour", "in 24 h"), strict=True)
            shown = (f"{used_s:.1f}{'' if most_s is None else f' of {most_s:g}'} s {of}" for used_s, most_s, of in each)
            words.append(f"{what} {', '.join(shown)}")
        return "; ".join(words)


def parse_allowance(text: str) -> Allowance:
    """Parse `10m` (a day; a fifth of it in an hour), `2m/hour,10m/day`, `0` (never), `none` (no limit). Raises
    ValueError."""
    if text.strip().lower() == "none":
        return Allowance(None, None)
    found: dict[str, float] = {}
    for part in text.lower().replace(" ", "").split(","):
        time, slash, of = part.partition("/")
        matched = _TIME.fullmatch(time)
        of = {"": "day", "h": "hour", "d": "day"}.get(of, of)
        if matched is None or of not in ("hour", "day") or of in found or (slash and not part.partition("/")[2]):
            raise ValueError(f"{text!r} is not an allowance; write 10m, 2m/hour,10m/day, 0 or none")
        found[of] = float(matched[1]) * _UNITS_S[matched[2]]
    if "/" not in text:
        found["hour"] = found["day"] / DAY_TIMES
    return Allowance(found.get("hour"), found.get("day"))
