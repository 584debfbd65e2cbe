"""Run each published result's command as a user types it, and print answer, interval and error beside the result.

Rows are in docs/claims/published.toml. They are also held by tests/predict/test_published_answers.py, so that a change
for the worse is seen. Unlike `python -m bench priors` nothing is left out of the fit: this is what people are told.
"""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import statistics
import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from bench.support.harness import record
from swarm_predict.explain.usual import Range
from swarmtop import cli

FILE: Final = Path(__file__).parents[2] / "docs" / "claims" / "published.toml"


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One published speed and the command that asks for it, from the root of the repository."""

    name: str
    source: str
    command: str
    tokens_per_s: Annotated[float, Meta(gt=0)]  # one stream, as published
    error_percent: float  # of the answer when it was last looked at; above 0: too fast
    outside: str = ""  # why the published speed is not in the interval; empty: it is


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    row: tuple[Row, ...]


def rows() -> tuple[Row, ...]:
    return msgspec.toml.decode(FILE.read_bytes(), type=_File).row


def answer(row: Row) -> Range:
    """Return the tokens a second of one stream that the command answers. Raises RuntimeError where it refuses."""
    out, problems = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(problems):
        code = cli.main([*shlex.split(row.command), "--json"])
    if code:
        raise RuntimeError(f"{row.name}: {problems.getvalue().strip()}")
    speed = json.loads(out.getvalue())["tokens_per_s"]
    slow, fast = sorted((speed["p5"], speed["p95"]))
    return Range(slow, speed["p50"], fast)


def error(row: Row, found: Range) -> float:
    """Return the relative error of the median; above 0: too fast."""
    return found.p50 / row.tokens_per_s - 1


def main(arguments: list[str] | None = None) -> int:
    errors, held = [], []
    for row in rows():
        found = answer(row)
        errors.append(abs(error(row, found)))
        held.append(found.holds(row.tokens_per_s))
        print(
            f"{row.name:<48} {found.p50:8.3g} ({found.p5:6.3g} … {found.p95:6.3g})  published {row.tokens_per_s:6.3g}"
            f"  {error(row, found):+6.1%}  {'' if held[-1] else 'OUTSIDE'}"
        )
    inside = sum(held) / len(held)
    print(f"{len(errors)} results: median error {statistics.median(errors):.1%}, inside the interval {inside:.0%}")
    record("published results as asked: median error", 100 * statistics.median(errors), "%")
    record("published results as asked: inside the interval", 100 * inside, "%", more_is_better=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
