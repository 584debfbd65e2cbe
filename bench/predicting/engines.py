"""Run real engines on emulated networks, and compare with predictions (three minutes a network, half a minute an
engine).

`python -m bench engines --engine gloo --network even --network thin` runs a part. For each network the lab's own probes
measure, the time per token is predicted, and only then the engine runs, on the shaped network and on an unshaped twin
in turn, so that the network's share and the computation's are known apart.

`--build-only` builds the engines, so that a machine can be quiet when they run; all of them where none is named.
`--record` keeps the runs as data, `--recorded` predicts what is kept without running anything, and `--fit` fits to it
how far engines lie from their prediction (`swarm_predict/priors/engine_errors.json`), and prints error and coverage of
each network by constants that were fitted to the others.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from typing import Final

from bench.engine_runs.engines.distributed_llama import DistributedLlama
from bench.engine_runs.engines.gloo import Gloo
from bench.engine_runs.engines.llama_cpp import LlamaCpp
from bench.engine_runs.engines.petals import Petals
from bench.engine_runs.fit_widths import STORED, fit, store
from bench.engine_runs.leave_one_network_out import left_out
from bench.engine_runs.networks import NETWORKS
from bench.engine_runs.recorded_runs import FILE, read, record, run_of, with_new, write
from bench.engine_runs.report import left_out_text, line, text
from bench.engine_runs.runs import MODEL_FOLDER, SETTLING_S, Engine, EngineUnavailable, Failed, Run, race
from bench.predicting.priors import of_published
from bench.support.harness import machine
from swarm_lab.emulation import netns
from swarm_lab.verification.race import RaceError
from swarm_storage.errors import StoreError
from swarmtop.parsed_options import load_model

ENGINES: Final[dict[str, Engine]] = {
    engine.name: engine for engine in (Gloo(), Petals(), LlamaCpp(), DistributedLlama())
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench engines")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="default: gloo; may be given again")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="default: all; may be given again")
    parser.add_argument("--rounds", type=int, default=2, help="runs on each of the two networks, in turn (2)")
    parser.add_argument(
        "--settling",
        type=float,
        default=SETTLING_S,
        metavar="S",
        help=f"seconds that probes measure more ({SETTLING_S:.0f})",
    )
    parser.add_argument("--build-only", action="store_true", help="build the engines or find them, and run nothing")
    parser.add_argument("--record", action="store_true", help=f"keep the runs in {FILE.name}, in place of older ones")
    parser.add_argument("--recorded", action="store_true", help="predict the runs that are kept, and run nothing")
    parser.add_argument("--fit", action="store_true", help="fit the widths of predictions to the runs that are kept")
    chosen = parser.parse_args(arguments or [])
    if chosen.recorded or chosen.fit:
        return _recorded(chosen.engine, chosen.network, refit=chosen.fit)
    if chosen.build_only:
        return int(_prepared(chosen.engine or list(ENGINES))[1])
    if why := netns.why_unavailable():
        print(f"skipped: {why}")
        return 0
    print(machine(), flush=True)
    engines, failed = _prepared(chosen.engine or ["gloo"])
    runs: list[Run] = []
    for network in chosen.network or NETWORKS:
        here = [engine for engine in engines if not engine.networks or network in engine.networks]
        if not here:
            continue
        try:
            found = asyncio.run(_on(here, network, chosen.rounds, chosen.settling))
        except (RaceError, netns.LabUnavailable, StoreError) as error:
            print(f"{network} failed: {error}", flush=True)
            failed = True
            continue
        good = [run for run in found if isinstance(run, Run)]
        if chosen.record:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            write(with_new(read(), [record(run, at, machine()) for run in good]))
        runs += good
        failed |= any(isinstance(run, Failed) for run in found)
    if runs:
        print(text(runs))
    return int(failed)


def _recorded(engines: list[str] | None, networks: list[str] | None, *, refit: bool) -> int:
    """Print the table of the runs that are kept; with `refit`, fit to all of them and store the widths."""
    model = load_model(str(MODEL_FOLDER))
    kept = [one for one in read() if not engines or one.engine in engines]
    runs = [run_of(one, ENGINES, model) for one in kept if not networks or one.network in networks]
    print(text(runs))
    if refit:
        published = of_published()
        found = fit(runs, published)
        store(found)
        print(f"\nfitted to {found.runs} runs that nothing disturbed, and the earlier medians: {STORED}")
        print("the software of their messages is used once it is fitted too: python -m bench priors --fit\n")
        print(left_out_text(left_out(runs, published)))
    return 0


def _prepared(names: list[str]) -> tuple[list[Engine], bool]:
    """Return (engines that can be run, whether some cannot)."""
    ready = []
    for name in names:
        try:
            ENGINES[name].prepare(_say)
        except EngineUnavailable as error:
            print(f"{name}: {error}")
            continue
        ready.append(ENGINES[name])
    return ready, len(ready) < len(names)


async def _on(engines: list[Engine], network: str, rounds: int, settling_s: float) -> list[Run | Failed]:
    """Run engines on a network; print each line as it is known."""
    found = []
    async for run in race(engines, NETWORKS[network], load_model(str(MODEL_FOLDER)), rounds, _say, settling_s):
        if isinstance(run, Failed):
            print(f"  {run.engine} {run.case} on {run.network} failed: {run.why}", flush=True)
        else:
            print("  " + "  ".join(line(run)), flush=True)
        found.append(run)
    return found


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
