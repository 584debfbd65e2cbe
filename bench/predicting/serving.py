"""Compare predictions for many users with an event simulation of every request, pass and station (SimPy), on random
placements.

`python -m bench serving` takes some minutes; `--cases N` and `--seed S` draw others, `--kind groups` a part. Each case
is a swarm drawn at random and a placement on it: a pipeline, groups of machines that share layers, a pipeline with
guesses, or two placements that share a machine. The stations of what `predict --arrivals` prices are simulated as they
are: compared is how queues, batches and shared machines are modelled, not the time of a layer. `--fit` writes the
errors by kind and load to `serving/simulated_errors.json`, from which predictions take their intervals; without it the
share of cases is printed that lie within those intervals (the doubt of the model alone, since stations are the same).
"""

from __future__ import annotations

import argparse
import datetime
import math
import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

import swarm_predict.serving
from bench.support.harness import record, table
from bench.support.serving_simulation import Seen, SimulatedRoute, simulate
from swarm_predict.cost.speculative import outcomes, window_yields
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.serving.intervals import Errors, Simulated, intervals
from swarm_predict.serving.intervals import simulated as stored
from swarm_predict.serving.lengths import lognormal
from swarm_predict.serving.replicas import Replicas
from swarm_predict.serving.routes.route import Route
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import DoesNotFit, Workload
from swarm_protocol.swarm_files.swarm_file import parse_swarm

MODEL: Final = model_named("llama-3.1-8b")
HEADS: Final = (
    "placement", "load", "n", "token: median", "worst", "bias", "first: median", "worst", "bias", "token within",
    "first within",
)  # fmt: skip
KINDS: Final = ("pipeline", "groups", "drafts", "windows", "shared")
LOADS: Final = (0.3, 0.6, 0.8)  # of the most that is sustained
EDGE: Final = 0.95  # beside them
CASES: Final = 6  # of each kind
REQUESTS: Final = 1200
MAX_SEQUENCES: Final = 48  # sequences at once, so that a simulation reaches them
AT_THE_EDGE: Final = 2  # times as many, as queues take long to build up
SAME_STATIONS: Final = (1.0, 1.0)  # the doubt about machines and paths: none
COVERED: Final = (0.85, 0.95)  # of the cases, that an interval from p5 to p95 is to hold
GOAL: Final = 0.05  # median error of a time per token
ENOUGH: Final = 60  # requests, below which a simulation says little
PLACEMENTS: Final = {
    "pipeline": ("chain", ["a:0-9,b:10-20,c:21-31"]),
    "groups": ("hybrid", ["a:0-15,b:0-15,c:16-31,d:16-31"]),
    "drafts": ("chain", ["a:0-15,b:16-31"]),
    "windows": ("chain", ["a:0-10,b:11-21,c:22-31"]),
    "shared": ("chain", ["a:0-15,c:16-31", "b:0-15,c:16-31"]),
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One case under one arrival rate: relative errors of the prediction, over all requests."""

    kind: str
    load: float
    tpot: float
    ttft: float
    tpot_within: bool  # simulated, of p5 to p95
    ttft_within: bool


def drawn(kind: str, seed: int) -> Replicas:
    """Draw a swarm and price a placement of this kind on it."""
    rng = random.Random(f"{kind}{seed}")
    nodes = "".join(
        f'[[node]]\nname = "{name}"\nvram_gib = {rng.uniform(22, 40):.1f}\nmem_gbps = {rng.uniform(200, 1000):.0f}\n'
        f"tflops = {rng.uniform(15, 120):.0f}\nup_mbps = {rng.uniform(50, 900):.0f}\ndown_mbps = 1000.0\n"
        for name in "abcd"
    )
    rtt_ms = rng.uniform(0.2, 3.0) if kind == "groups" else rng.uniform(2.0, 80.0)
    swarm = parse_swarm(f'{nodes}[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = {rtt_ms:.2f}\n')
    engine, texts = PLACEMENTS[kind]
    load = Workload(engine=engine, prefill_chunk=rng.choice([128, 256]))  # type: ignore[arg-type]
    if kind == "drafts":
        load = replace(load, draft_tokens=rng.choice([2, 4, 6]), draft_accept=rng.uniform(0.5, 0.9), draft_ms=1.0)
    if kind == "windows":
        load = replace(load, draft_tokens=rng.choice([2, 3, 4]), draft_accept=rng.uniform(0.6, 0.97), draft_ms=1.0)
        load = replace(load, windows=rng.choice([2, 3, 4, 6]))
    traffic = Traffic(1.0, lognormal(256, 800), lognormal(60, 200), most_sequences=MAX_SEQUENCES)
    return Replicas(swarm, MODEL, [parse_placement(text, MODEL, swarm, engine) for text in texts], load, traffic)


def simulated(route: Route, arrivals_per_s: float, replicas: Replicas) -> SimulatedRoute:
    """Return a route as the simulation takes it: the same stations, nothing of the theory."""
    known: dict[tuple[int, int, int | None], float] = {}

    def service(station: int, decoding: int, kind: int | None) -> float:
        key = (station, decoding, kind)
        if key not in known:
            decode = float(route.decode_at(decoding)[station]) if decoding else 0.0
            known[key] = decode + (0.0 if kind is None else float(route.prompts.station_ms[kind, station]))
        return known[key]

    # a wire that is faster than the one at its other end is passed at the same time
    in_way = [k for k, station in enumerate(route.stations) if station.in_way]
    return SimulatedRoute(
        stations=[route.stations[k].name for k in in_way],
        service=lambda k, decoding, kind: service(in_way[k], decoding, kind),
        between_ms=[route.between_ms / len(in_way)] * len(in_way),
        prompt_passes=[int(parts) for parts in route.prompts.passes],
        answers=replicas.traffic.generate.values,
        micro_batches=route.micro_batches,
        most_sequences=route.most_sequences,
        arrivals_per_s=arrivals_per_s,
        yields=window_yields(replicas.workload),
        windows=route.windows,
        **_outcomes(replicas.workload),
    )


def _outcomes(workload: Workload) -> dict[str, Any]:
    if workload.windows == 1:
        return {}
    found = outcomes(workload)
    return {"goes_on": found.goes_on, "tokens_on": found.tokens_on, "ends": found.ends}


def compare(kind: str, seed: int, loads: Sequence[float] = LOADS, requests: int = REQUESTS) -> list[Compared]:
    """Predict and simulate one case at some shares of the most that it sustains."""
    replicas = drawn(kind, seed)
    found = []
    for load in loads:
        rate = load * replicas.most_per_s
        routes = [
            simulated(route, rate * share, replicas)
            for route, share in zip(replicas.routes, replicas.shares, strict=True)
        ]
        seen = simulate(routes, requests=requests if load < EDGE else AT_THE_EDGE * requests, seed=seed)
        if sum(len(real.requests) for real in seen.routes) >= ENOUGH:
            found.append(_compared(kind, load, replicas, seen.routes))
    return found


def _compared(kind: str, load: float, replicas: Replicas, seen: Sequence[Seen]) -> Compared:
    replicas = replicas.asked_for(load * replicas.most_per_s)
    here = replicas.at(replicas.traffic.arrivals_per_s)
    requests = [request for real in seen for request in real.requests]
    tokens = sum(each.tokens - 1 for each in requests)
    tpot = sum(each.ended - each.first for each in requests) / tokens
    ttft = statistics.fmean(each.first - each.arrived for each in requests)
    of_tokens, of_firsts = intervals(replicas, SAME_STATIONS)
    return Compared(
        kind, load, here.tpot_ms.mean / tpot - 1, here.ttft_ms.mean / ttft - 1,
        of_tokens.p5 <= tpot <= of_tokens.p95, of_firsts.p5 <= ttft <= of_firsts.p95,
    )  # fmt: skip


def _case(what: tuple[str, int, tuple[float, ...]]) -> list[Compared]:
    kind, seed, loads = what
    try:
        return compare(kind, seed, loads)
    except DoesNotFit as error:
        print(f"{kind} {seed} left out: {error}")
        return []


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench serving")
    parser.add_argument("--kind", action="append", choices=KINDS, help="default: all; may be given again")
    parser.add_argument("--cases", type=int, default=CASES, help=f"of each kind ({CASES})")
    parser.add_argument("--seed", type=int, default=0, help="of the first case (0)")
    parser.add_argument("--workers", type=int, default=1, help="processes; cases are divided among them (1)")
    parser.add_argument(
        "--fit", action="store_true", help="write the errors that intervals are made of, of these kinds"
    )
    chosen = parser.parse_args(arguments or [])
    loads = (*LOADS, EDGE)
    seeds = range(chosen.seed, chosen.seed + chosen.cases)
    cases = [(kind, seed, loads) for kind in chosen.kind or KINDS for seed in seeds]
    with ProcessPoolExecutor(chosen.workers) as pool:
        everything = [each for found in pool.map(_case, cases) for each in found]
    rows = []
    for kind in chosen.kind or KINDS:
        found = [each for each in everything if each.kind == kind]
        rows += [_row(kind, load, [each for each in found if each.load == load]) for load in loads]
        if found:
            record(f"{kind}: median error of a token", _median(each.tpot for each in found) * 100, "%")
    print(table(HEADS, rows))
    if not everything:
        return 1
    if chosen.fit:
        command = f"python -m bench serving --fit --cases {chosen.cases} --seed {chosen.seed}"
        _write(everything, command)
    else:
        for what, within in (
            ("time per token", [each.tpot_within for each in everything]),
            ("first token", [each.ttft_within for each in everything]),
        ):
            share = statistics.fmean(within)
            record(f"{what} within its interval", share * 100, "%")
            print(f"{what}: {share:.0%} of {len(within)} within p5 to p95 ({COVERED[0]:.0%} to {COVERED[1]:.0%} meant)")
    upto = [each for each in everything if each.load in LOADS]
    median = _median(each.tpot for each in upto)
    print(f"goal {GOAL:.0%} median error of a time per token up to 80 %: {median:.1%} over {len(upto)} cases and loads")
    return int(median > GOAL)


def _write(found: Sequence[Compared], command: str) -> None:
    """Write simulated over predicted, for a further case of each kind and load."""
    groups: dict[tuple[str, float], list[Compared]] = {}
    for each in found:
        groups.setdefault((each.kind, each.load), []).append(each)
    errors = tuple(
        Errors(kind, load, len(cases), _ends([each.tpot for each in cases]), _ends([each.ttft for each in cases]))
        for (kind, load), cases in groups.items()
    )
    kinds = {each.kind for each in errors}
    errors = tuple(sorted((*(each for each in stored().errors if each.kind not in kinds), *errors), key=_place))
    table_of = Simulated(command, datetime.datetime.now(tz=datetime.UTC).date().isoformat(), errors)
    to = Path(swarm_predict.serving.__file__).with_name("simulated_errors.json")
    to.write_bytes(msgspec.json.format(msgspec.json.encode(table_of), indent=1) + b"\n")
    print(f"wrote {to.name}")


def _place(each: Errors) -> tuple[int, float]:
    return KINDS.index(each.kind), each.load


def _ends(errors: Sequence[float]) -> tuple[float, float]:
    """Return where a further case lies in nine of ten times: Student's prediction interval of the logarithms."""
    logs = [-math.log1p(error) for error in errors]
    mean, deviation = statistics.fmean(logs), statistics.stdev(logs)
    wide = student_t95(len(logs) - 1) * deviation * math.sqrt(1 + 1 / len(logs))
    return round(math.exp(mean - wide), 3), round(math.exp(mean + wide), 3)


def student_t95(freedom: int) -> float:
    """Return Student's t at 95 %, by its expansion around the normal (Abramowitz and Stegun 26.7.5)."""
    z = statistics.NormalDist().inv_cdf(0.95)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _median(errors: object) -> float:
    return statistics.median(abs(each) for each in errors)  # type: ignore[attr-defined]


def _row(kind: str, load: float, found: Sequence[Compared]) -> tuple[str, ...]:
    if not found:
        return (kind, f"{load:.0%}", "0", *["–"] * 8)
    tokens, firsts = [each.tpot for each in found], [each.ttft for each in found]
    return (
        kind,
        f"{load:.0%}",
        str(len(found)),
        f"{_median(tokens):.1%}",
        f"{max(map(abs, tokens)):.1%}",
        f"{statistics.median(tokens):+.1%}",
        f"{_median(firsts):.1%}",
        f"{max(map(abs, firsts)):.1%}",
        f"{statistics.median(firsts):+.1%}",
        f"{sum(each.tpot_within for each in found)}/{len(found)}",
        f"{sum(each.ttft_within for each in found)}/{len(found)}",
    )


if __name__ == "__main__":
    raise SystemExit(main())
