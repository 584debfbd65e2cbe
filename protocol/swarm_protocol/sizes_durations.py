"""Parse sizes and durations that people type for flags, settings and rules, and write them back.

    size       4096, 50MB, 16MiB, 1.5 GB       (KB is 1000 bytes, KiB is 1024; B may be left out, case does not matter)
    duration   500ms, 90s, 15m, 2h, 7d, 4w, 1h30m     (also 30min, 2 hours, 1 week)

Errors are ValueError with a line that begins with what was typed and ends with what to type instead; the caller puts
the name of the option before it. Imports nothing heavy: `--help` needs this module.
"""

from __future__ import annotations

import math
import re
from typing import Final

from swarm_protocol.text import safe

MAX_BYTES: Final = 1 << 60
MAX_SECONDS: Final = 100 * 366 * 86_400.0

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(I?))?B?", re.IGNORECASE)
UNITS: Final = r"(?:ms|s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?|w(?:eeks?)?)"  # of durations
_DURATION: Final = re.compile(rf"(?:\d+(?:\.\d+)?\s*{UNITS}(?![a-z])\s*)+")
_PART: Final = re.compile(rf"(\d+(?:\.\d+)?)\s*({UNITS})")
_UNIT_S: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_POWER: Final = {"K": 1, "M": 2, "G": 3, "T": 4}
_SHOWN: Final = 80  # characters of the input


def parse_size(text: str, *, least: int = 1, most: int = MAX_BYTES) -> int:
    """Return bytes. KB, MB, GB, TB are decimal; KiB, MiB, GiB, TiB binary. Raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or not text.isascii():
        raise ValueError(f"{safe(text, _SHOWN) or 'nothing'} is not a size; give 50MB, 16MiB or 2GiB")
    unit = (1024 if found[3] else 1000) ** _POWER[found[2].upper()] if found[2] else 1
    size = float(found[1]) * unit if "." in found[1] else int(found[1]) * unit
    if not least <= size <= most:
        bound = f"less than {size_text(least)}" if size < least else f"more than {size_text(most)}"
        raise ValueError(f"{safe(text, _SHOWN)} is {bound}")
    return round(size)


def size_text(size_bytes: int) -> str:
    """Return the shortest exact form that `parse_size` accepts: 16MiB, 50MB, 1234."""
    for base, infix in ((1024, "i"), (1000, "")):
        for unit, power in sorted(_POWER.items(), key=lambda item: -item[1]):
            if size_bytes and size_bytes % base**power == 0:
                return f"{size_bytes // base**power}{unit}{infix}B"
    return str(size_bytes)


def parse_duration_s(text: str, *, least_s: float = 0.0, most_s: float = MAX_SECONDS) -> float:
    """Return seconds. Raises ValueError."""
    words = text.strip().lower()
    if not text.isascii() or _DURATION.fullmatch(words) is None:
        raise ValueError(f"{safe(text, _SHOWN) or 'nothing'} is not a duration; give 90s, 15m, 2h, 7d or 4w")
    seconds = math.fsum(
        float(number) * _UNIT_S[unit if unit == "ms" else unit[0]] for number, unit in _PART.findall(words)
    )
    if not least_s <= seconds <= most_s:
        bound = f"less than {duration_text(least_s)}" if seconds < least_s else f"more than {duration_text(most_s)}"
        raise ValueError(f"{safe(text, _SHOWN)} is {bound}")
    return seconds


def duration_text(seconds: float) -> str:
    """Return the duration in the largest unit without a fraction: 90s, 15m, 2h, 7d."""
    for unit in ("w", "d", "h", "m", "s"):
        if seconds and seconds % _UNIT_S[unit] == 0:
            return f"{seconds / _UNIT_S[unit]:.12g}{unit}"
    return f"{seconds * 1e3:.12g}ms" if seconds else "0s"
