"""Draw values as characters: sparkline, braille line, bar.

None and NaN are gaps and are drawn as gaps, never as 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

SPARK = "▁▂▃▄▅▆▇█"
MAX_LABEL: Final = 6  # cells of a figure at an axis
_BRAILLE = 0x2800
# bit of the dot at (x, y) in a braille cell, y counted from the top
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def resample(values: Sequence[float | None], buckets: int) -> list[float | None]:
    """Reduce `values` to `buckets` values: the largest of each group, so that peaks remain, and None if all are
    gaps."""
    if not values or buckets <= 0:
        return [None] * max(0, buckets)
    out: list[float | None] = []
    for i in range(buckets):
        low = i * len(values) // buckets
        high = max(low + 1, (i + 1) * len(values) // buckets)
        kept = [v for v in values[low:high] if v is not None and math.isfinite(v)]
        out.append(max(kept) if kept else None)
    return out


def spark(values: Sequence[float | None], width: int, top: float | None = None, gap: str = " ") -> str:
    """Return one line of eight levels from 0 to `top` (default: the largest value)."""
    missing: list[float | None] = [None] * (width - len(values))
    picked = resample(values, width) if len(values) > width else [*missing, *values]
    highest = top if top is not None else max((v for v in picked if v is not None and known(v)), default=0.0)
    return "".join(_level(v, highest, gap) for v in picked)


FULL_RISE = 1.5  # share of the least value that fills a line of `rise`; more if a value lies further above


def rise(values: Sequence[float | None], width: int) -> str:
    """Return one line of how far each value lies above the least: a steady series stays low, whatever its level."""
    some = [v for v in values if v is not None and math.isfinite(v)]
    if not some:
        return " " * width
    least = min(some)
    top = max(max(some), FULL_RISE * least) - least
    return spark([None if v is None or not math.isfinite(v) else v - least for v in values], width, top)


def _level(value: float | None, top: float, gap: str) -> str:
    if value is None or not math.isfinite(value):
        return gap
    if top <= 0:
        return SPARK[0]
    return SPARK[min(7, max(0, math.ceil(8 * min(value, top) / top) - 1))]


def nice_top(highest: float) -> float:
    """Return the next round number (1, 2, 3, 5 times a power of ten) at or above `highest`, as the top of an axis."""
    if not highest > 0 or not math.isfinite(highest):
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1, 2, 3, 5, 10) if step * power >= highest * (1 - 1e-9))


def parts_of_axis(top: float, rows: int) -> int:
    """Return into how many equal parts of whole lines an axis of a round `top` can be divided with round figures."""
    first = f"{top:.0e}"[0]
    wanted = {"1": (5, 2), "2": (4, 2), "3": (3,), "5": (5,)}.get(first, (2,))
    return next((parts for parts in wanted if rows % parts == 0 and rows // parts > 1), 1)


def lines_apart(top: float, rows: int) -> int:
    """Return how many lines apart the figures of a tall axis stand: quarters or halves if they can be written exactly,
    else round figures."""
    for parts in (4, 2):
        exact = all(math.isclose(float(axis_label(top * k / parts)), top * k / parts) for k in range(1, parts))
        if rows % parts == 0 and (rows > parts or parts == 2) and exact:
            return rows // parts
    return rows // parts_of_axis(top, rows)


def braille(values: Sequence[float | None], width: int, rows: int, top: float) -> list[str]:
    """Return a line chart of `width` × `rows` cells from 0 (bottom) to `top`; neighbours are joined, gaps are not."""
    if width <= 0 or rows <= 0:
        return [""] * max(0, rows)
    return ["".join(glyph(bits) for bits in row) for row in line_dots(values, width, rows, top)]


def line_dots(values: Sequence[float | None], width: int, rows: int, top: float) -> list[list[int]]:
    """Return the same line as the dots of each cell, for charts that draw more than one thing."""
    cells = [[0] * width for _ in range(rows)]
    high = 4 * rows - 1
    before: int | None = None
    for x, value in enumerate(per_dot(values, width)):
        if value is None or not math.isfinite(value):
            before = None
            continue
        level = dot_level(value, rows, top)
        start = level if before is None else before
        # half of the vertical joint belongs to each column
        for y in range(min(start, level), max(start, level) + 1):
            if y != start or before is None:
                set_dot(cells, x, high - y)
        if before is not None and start == level:
            set_dot(cells, x, high - level)
        before = level
    return cells


def per_dot(values: Sequence[float | None], width: int) -> list[float | None]:
    """Return a value for each of the two columns of dots of every cell."""
    return resample(values, 2 * width) if len(values) >= 2 * width else _stretch(values, 2 * width)


def dot_level(value: float, rows: int, top: float) -> int:
    """Return the height in dots above the lowest, of `4 * rows`."""
    high = 4 * rows - 1
    return 0 if top <= 0 else min(high, max(0, round(high * min(value, top) / top)))


def glyph(bits: int) -> str:
    return chr(_BRAILLE + bits) if bits else " "


def _stretch(values: Sequence[float | None], columns: int) -> list[float | None]:
    return [values[i * len(values) // columns] if values else None for i in range(columns)]


def set_dot(cells: list[list[int]], x: int, y: int) -> None:
    cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]


def axis_label(value: float) -> str:
    """Return a figure of at most MAX_LABEL characters, exact for the parts of an axis with a round top."""
    if value >= 1e5:
        power = 3 * (math.floor(math.log10(value)) // 3)
        return f"{value / 10**power:.3g}e{power}"
    text = f"{value:.0f}" if value >= 10 else f"{value:.3g}"
    return text if len(text) <= MAX_LABEL else f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")


_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


def smooth_bar(share: float, width: int) -> str:
    """Return a bar of `share` (0..1) of `width`, to an eighth of a cell, filled with blanks; a share above zero is
    visible."""
    if not math.isfinite(share) or share <= 0:
        return " " * width
    eighths = max(1, round(min(share, 1.0) * width * 8))
    full, part = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[part] if part else "")).ljust(width)


def bar(share: float, width: int, full: str = "█") -> str:
    """Return a bar of `share` (0..1) of `width` cells; a share above zero gets at least one."""
    if not known(share) or share <= 0:
        return ""
    return full * max(1, round(min(share, 1.0) * width))


def stacked(parts: Sequence[tuple[float, str]], total: float, width: int) -> list[tuple[str, int]]:
    """Return cells for each (value, glyph), together `sum / total` of `width`, rounded by largest remainder."""
    if total <= 0:
        return [(glyph, 0) for _, glyph in parts]
    exact = [max(0.0, value) / total * width for value, _ in parts]
    cells = [math.floor(e) for e in exact]
    missing = round(sum(exact)) - sum(cells)
    for i in sorted(range(len(parts)), key=lambda k: exact[k] - cells[k], reverse=True)[: max(0, missing)]:
        cells[i] += 1
    return [(glyph, n) for (_, glyph), n in zip(parts, cells, strict=True)]
