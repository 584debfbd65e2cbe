"""Run benchmarks, and print a table of the figures that they recorded: now, before, and beside their floor or peer."""

from __future__ import annotations

import datetime as dt
import importlib
import inspect
import pkgutil
import sys

import bench
from bench.support import results
from bench.support.harness import table

TOPICS = ("measuring", "collecting", "predicting", "programs")  # folders with benchmarks
# take minutes each, so `all` leaves them out
LONG = (
    "after_change", "changes", "engines", "loss_window", "prediction_error", "restart", "serving", "soak", "straggler",
)  # fmt: skip

USAGE = """usage: python -m bench NAME ...            run benchmarks, and print the figures they recorded
       python -m bench NAME --OPTION ...   run one with options of its own
       python -m bench all                 run all but the long ones (*)
       --write                             keep the figures in docs/benchmarks.md
"""


def modules() -> dict[str, str]:
    """Return the import name of each benchmark by its name."""
    root = bench.__path__[0]
    found = {
        name: f"bench.{topic}.{name}" for topic in TOPICS for _, name, _ in pkgutil.iter_modules([f"{root}/{topic}"])
    }
    return dict(sorted(found.items()))


def main(arguments: list[str]) -> int:
    known = modules()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        for name in known:
            purpose = " ".join((importlib.import_module(known[name]).__doc__ or "").split("\n\n")[0].split())
            print(f"{'*' if name in LONG else ' '} {name:<16} {purpose}")
        return 0
    write = "--write" in arguments
    arguments = [each for each in arguments if each != "--write"]
    options = arguments[1:] if len(arguments) > 1 and arguments[1].startswith("-") else []
    arguments = arguments[: len(arguments) - len(options)]
    chosen = [name for name in known if name not in LONG] if arguments == ["all"] else arguments
    if unknown := [name for name in chosen if name not in known]:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    if options and not inspect.signature(importlib.import_module(known[chosen[0]]).main).parameters:
        print(f"the benchmark {chosen[0]} has no options; it was given {' '.join(options)}", file=sys.stderr)
        return 2
    worst = 0
    try:
        for name in chosen:
            print(f"== {name}", flush=True)
            results.begin(name)
            run = importlib.import_module(known[name]).main
            worst = max(worst, run(options) if options else run())
    finally:  # also if one fails: the figures of those before it are kept
        _conclude(write=write)
    return worst


def _conclude(*, write: bool) -> None:
    """Print the recorded figures beside those kept for this machine, and keep them if `write` is set."""
    found = results.recorded()
    if not found:
        return
    page, machine = results.PAGE.read_text(), results.machine_name()
    rows = results.rows(found, results.read(page).get(machine, {}), dt.datetime.now(dt.UTC).date())
    print(f"== figures, on {machine}")
    print(table(results.TITLE[:-1], [row.cells[:-1] for row in rows]))
    if write:
        results.PAGE.write_text(results.written(page, machine, rows))
        print(f"kept in {results.PAGE}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
