"""`python -m bench` lists the benchmarks, `python -m bench NAME …` runs some, `python -m bench all` the short ones;
`python -m bench NAME --OPTION …` runs one with options of its own."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import bench

LONG = ("after_change", "changes", "prediction_error", "soak", "straggler")  # minutes by the dozen: by name only


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))


def main(arguments: list[str]) -> int:
    known = names()
    if not arguments:
        for name in known:
            purpose = (importlib.import_module(f"bench.{name}").__doc__ or "").strip().splitlines()[0]
            print(f"  {name:<16} {purpose}")
        return 0
    options = arguments[1:] if len(arguments) > 1 and arguments[1].startswith("-") else []
    arguments = arguments[: len(arguments) - len(options)]
    chosen = [name for name in known if name not in LONG] if arguments == ["all"] else arguments
    if unknown := [name for name in chosen if name not in known]:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    worst = 0
    for name in chosen:
        print(f"== {name}", flush=True)
        run = importlib.import_module(f"bench.{name}").main
        worst = max(worst, run(options) if options else run())
    return worst


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
