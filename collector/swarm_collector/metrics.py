"""Write the collector's own figures as Prometheus text for `/metrics` (exposition format 0.0.4). Pure.

Only figures of the collector and the whole swarm: members and their machines are shown to holders of the token.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4"
COMMIT_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
Kind = Literal["counter", "gauge", "histogram"]


@dataclass(slots=True)
class Histogram:
    bounds: Sequence[float] = COMMIT_BOUNDS_S
    total: float = 0.0
    _counts: list[int] = field(init=False)  # of each bucket alone; the last one is everything above

    def __post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self._counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    def lines(self, name: str) -> Iterable[str]:
        running = 0
        for bound, count in zip((*self.bounds, math.inf), self._counts, strict=True):
            running += count
            yield f'{name}_bucket{{le="{"+Inf" if bound == math.inf else f"{bound:g}"}"}} {running}'
        yield f"{name}_sum {self.total!r}"
        yield f"{name}_count {running}"


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    kind: Kind
    help: str
    value: float | Histogram | Mapping[str, float]  # a mapping: by the value of `label`
    label: str = ""


def exposition(metrics: Iterable[Metric]) -> str:
    lines: list[str] = []
    for metric in metrics:
        lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}")
        if isinstance(metric.value, Histogram):
            lines += metric.value.lines(metric.name)
        elif isinstance(metric.value, Mapping):
            lines += (
                f'{metric.name}{{{metric.label}="{_escaped(key)}"}} {_number(value)}'
                for key, value in sorted(metric.value.items())
            )
        else:
            lines.append(f"{metric.name} {_number(metric.value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
