"""What a placement offers to many users (`Route`), from the same cost tables that predict one stream.

All times are medians of the tables, so that with one sequence a pass takes what `CostTables.price` says. The decoding
of a pass and the part of a prompt in it are computed one after the other, each reading the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np

from swarm_predict.cost.build import build_costs, prompt_columns
from swarm_predict.cost.engines import engine_facts
from swarm_predict.forecast.draws import Trip
from swarm_predict.forecast.forward_pass.first_token import no_faster_than
from swarm_predict.forecast.forward_pass.pipeline import Pipeline
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import check_placement
from swarm_predict.serving.cycle import cycle_ms
from swarm_predict.serving.route import Prompts, Route, Station
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import DoesNotFit, NotMeasured, Placement, PredictError, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm
from swarm_protocol.units import BITS_PER_BYTE, BYTES_PER_GIB

Wire = Literal["uplink", "downlink"]

PROMPTS: Final = 24  # lengths of prompts that are priced
MOST_SEQUENCES: Final = 4096  # at once, whatever memory holds: no scheduler runs more
MICRO_BATCHES: Final = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64)
WORTH: Final = 0.01  # of the throughput: more micro-batches than it takes for that are not used
# They keep as many micro-batches in flight as there are stages: vLLM v1/executor `max_concurrent_batches`, SGLang
# managers/scheduler_pp_mixin `pp_loop_size`.
AS_STAGES: Final = frozenset({"vllm", "sglang"})
# Their caches are reserved for the longest request, in slots or at the start of a session; others page them.
RESERVES: Final = frozenset({"llama.cpp", "mesh-llm", "prima.cpp", "petals", "exo", "exo-rdma", "mlx", "shard"})
LOADED: Final = 2  # micro-batches whose caches are in memory where caches lie outside: one computes, one is read


def route_of(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, traffic: Traffic) -> Route:
    """Return what a placement offers to requests of these lengths.

    Raises BadPlacement, NotMeasured, DoesNotFit if not even one request has room, PredictError for an engine or an
    option that is not modelled with many users."""
    _check(workload, traffic)
    check_placement(placement, model, swarm, workload.engine)
    placement = tuple(sorted(placement, key=lambda stage: stage.first))
    context = max(1, round(traffic.cached_tokens))
    load = replace(
        workload, context=context, prompt=max(1, round(traffic.prompt.mean)), batch=1, streams=1,
        cached_prompt=min(workload.cached_prompt, max(0, round(traffic.prompt.mean) - 1)),
    )  # fmt: skip
    one = _pipeline(swarm, model, placement, load)
    one.require_known()
    most, limit = _most_sequences(one, load, traffic)
    outside = load.offload_cache
    wires = _wires(one, one.trips)
    client = one.costs.tables.client_head_ms + load.client_ms
    stations = [Station(stage.node, "machine") for stage in placement]
    if client and one.costs.tables.client is not None:
        stations.append(Station(one.names[one.costs.tables.client], "machine"))
    stations += [Station(node, kind, in_way) for node, kind, in_way in wires]
    sizes = [0, *_sizes(max(1, most))]
    rows = [np.zeros(len(stations))]
    for size in sizes[1:]:
        run = one if size == 1 else _pipeline(swarm, model, placement, replace(load, batch=size))
        rows.append(_station_ms(run, stations, size, outside))
    in_way = np.array([station.in_way for station in stations])
    prompts = _prompts(one, traffic, stations)
    way_ms = one.costs.tables.price(list(range(len(placement))), [stage.layers for stage in placement])
    route = Route(
        stations=tuple(stations),
        between_ms=max(0.0, way_ms - float(rows[1][in_way].sum())),
        sizes=np.array(sizes, np.float64),
        decode_ms=np.array(rows),
        prompts=prompts,
        decode_passes=traffic.generate.mean - 1,
        passes_scv=_passes_scv(traffic, prompts),
        most_sequences=most,
        micro_batches=1,
        limit=limit,
    )
    asked = traffic.micro_batches or (len(placement) if workload.engine in AS_STAGES else 0)
    return replace(route, micro_batches=asked or fills(route))


def fills(route: Route) -> int:
    """Return the fewest micro-batches in flight that serve within a hundredth of the most requests a second."""
    rates = []
    for count in MICRO_BATCHES:
        if count > route.most_sequences:
            break
        each = replace(route, micro_batches=count)
        rates.append(
            each.useful_sequences / cycle_ms(each.loaded(each.useful_sequences), each.in_flight(each.useful_sequences))
        )
    return next(n for n, rate in zip(MICRO_BATCHES, rates, strict=False) if rate >= max(rates) * (1 - WORTH))


def _check(workload: Workload, traffic: Traffic) -> None:
    if engine_facts(workload).pattern == "all-reduce":
        raise PredictError(f"arrivals are modelled for pipelines, not for {workload.engine}; leave out --arrivals")
    for given, option in (
        (workload.draft_tokens, "--draft"), (workload.redundancy > 1, "--redundancy"), (workload.batch > 1, "--batch"),
        (workload.proof_ms, "--proof-ms"), (workload.spot_check, "--spot-check"), (workload.streams > 1, "--streams"),
    ):  # fmt: skip
        if given:
            raise PredictError(f"{option} is not modelled with arrivals; leave one of them out")
    if workload.offload_gbps and not workload.offload_cache:
        raise PredictError("with arrivals only the KV cache can be offloaded; add --offload-cache")
    if workload.offload_cache and not traffic.micro_batches:
        raise PredictError("micro-batches take turns in memory where the cache is offloaded; add --micro-batches")


def _pipeline(swarm: Swarm, model: ModelShape, placement: Placement, load: Workload) -> Pipeline:
    costs = build_costs(swarm, model, load, [swarm.index(stage.node) for stage in placement])
    return Pipeline(swarm, model, placement, load, costs)


def _sizes(most: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12 … up to `most`, and that."""
    found, size = [1, 2], 2
    while size < most:
        found += [size + size // 2, size * 2]
        size *= 2
    return sorted({size for size in found if size < most} | {1, max(2, most)})


def _most_sequences(run: Pipeline, load: Workload, traffic: Traffic) -> tuple[int, str]:
    """Return (sequences at once, the machine whose memory allows no more, or what else does)."""
    tokens = traffic.longest_tokens if load.engine in RESERVES else traffic.cached_tokens
    empty = replace(run.costs.needs, sequences=0)
    least, limit = math.inf, ""
    for k, stage in enumerate(run.placement):
        held = empty.stage_bytes(stage.first, stage.last) + float(run.runtime_bytes[k])
        room = float(run.room_bytes[k]) - held
        each = run.model.stage_cache_bytes(stage.first, stage.last, math.ceil(tokens))
        if room < each:
            raise DoesNotFit(
                f"{stage.node} needs {(held + each) / BYTES_PER_GIB:.1f} GiB for layers {stage.first}-{stage.last} and "
                f"the cache of one request of {tokens:.0f} tokens, has {float(run.room_bytes[k]) / BYTES_PER_GIB:.1f}; "
                "give it fewer layers or smaller --weights"
            )
        count = room / each if each else math.inf
        if count < least:
            least, limit = count, stage.node
    most = int(min(MOST_SEQUENCES, least))
    if load.offload_cache:  # one micro-batch computes, the next one is read
        most = min(MOST_SEQUENCES, max(1, int(least / LOADED) * traffic.micro_batches))
    if traffic.most_sequences and traffic.most_sequences <= most:
        return traffic.most_sequences, ""
    return most, limit if most < MOST_SEQUENCES else ""


def _wires(run: Pipeline, trips: Sequence[Trip]) -> list[tuple[str, Wire, bool]]:
    """Return (node, uplink or downlink, whether messages wait for it) of each end with a known rate."""
    found: dict[tuple[str, Wire], bool] = {}
    for trip in trips:
        slower, (up, down) = _slower(run, trip), _rates(run, trip)
        ends: tuple[tuple[int, Wire, float], ...] = ((trip.src, "uplink", up), (trip.dst, "downlink", down))
        for end, kind, rate in ends:
            if math.isfinite(rate):
                key = (run.names[end], kind)
                found[key] = found.get(key, False) or kind == slower
    return [(node, kind, in_way) for (node, kind), in_way in found.items()]


def _rates(run: Pipeline, trip: Trip) -> tuple[float, float]:
    nodes, rows = run.swarm.nodes, run.costs.rows
    up, down = float(nodes["up_mbps"][rows[trip.src]]), float(nodes["down_mbps"][rows[trip.dst]])
    return (math.inf if math.isnan(up) else up), (math.inf if math.isnan(down) else down)


def _slower(run: Pipeline, trip: Trip) -> Wire:
    up, down = _rates(run, trip)
    return "uplink" if up <= down else "downlink"


def _wire_ms(run: Pipeline, trips: Sequence[Trip]) -> dict[tuple[str, str], float]:
    busy: dict[tuple[str, str], float] = {}
    for trip in trips:
        up, down = _rates(run, trip)
        for end, kind, rate in ((trip.src, "uplink", up), (trip.dst, "downlink", down)):
            if math.isfinite(rate):
                key = (run.names[end], kind)
                busy[key] = busy.get(key, 0.0) + trip.size_bytes * BITS_PER_BYTE / (rate * 1e3)
    return busy


def _filled(stations: Sequence[Station], machine_ms: Sequence[float], wires: dict[tuple[str, str], float]) -> Floats:
    """Return (stations,): machines in their order, then wires by name."""
    rest = [wires.get((station.node, station.kind), 0.0) for station in stations[len(machine_ms) :]]
    return np.array([*machine_ms, *rest])


def _station_ms(run: Pipeline, stations: Sequence[Station], size: int, outside: bool) -> Floats:
    """Return (stations,) of a decoding pass of so many sequences."""
    tables = run.costs.tables
    layers = run.layers * tables.layer_ms[: len(run.placement)]
    if outside:  # read while layers compute
        needs, gbps = run.costs.needs, run.workload.offload_gbps
        bytes_read = [needs.model.stage_cache_bytes(s.first, s.last, run.workload.context) for s in run.placement]
        layers = np.maximum(layers, size * np.array(bytes_read) / (gbps * 1e6))
    machines = (layers + tables.overhead_ms[: len(run.placement)]).tolist()
    machines[-1] += float(tables.head_ms[len(machines) - 1])
    at_client = tables.client_head_ms
    if run.engine.head != "last" and tables.client is None:
        machines[0] += float(run.costs.layer.head_ms[0]) * run.workload.compute_scale
    if sum(station.kind == "machine" for station in stations) > len(machines):
        machines.append(at_client)
    else:
        machines[0] += at_client
    return _filled(stations, machines, _wire_ms(run, run.trips))


def _prompts(run: Pipeline, traffic: Traffic, stations: Sequence[Station]) -> Prompts:
    """Price the parts of prompts. Raises NotMeasured if no prefill time is known."""
    load, count = run.workload, len(run.placement)
    lengths = np.array(traffic.prompt.thinned(PROMPTS).values)
    passes, rows = np.ones(len(lengths)), []
    machines = sum(station.kind == "machine" for station in stations)
    for k, length in enumerate(lengths):
        prompt = max(1, round(float(length)))
        cached = min(load.cached_prompt, prompt - 1)
        tokens = prompt - cached
        passes[k] = math.ceil(tokens / load.prefill_chunk) if load.prefill_chunk else 1
        each = max(1, round(tokens / passes[k]))
        asked = replace(load, prompt=prompt, cached_prompt=cached)
        whole = prompt_columns(run.swarm, run.costs.rows, run.model, asked)
        layer = no_faster_than(run, run.costs.layer, replace(whole, ms=whole.ms / passes[k]))
        slow = [run.names[i] for i in range(count) if not np.isfinite(layer.ms[i])]
        if slow:
            raise NotMeasured(f"no prefill time and no tflops of {slow[0]} are known; measure it or write tflops")
        ms = run.layers * layer.ms[:count] * load.compute_scale + run.overhead_ms
        rows.append(_filled(stations, [*ms, *[0.0] * (machines - count)], _wire_ms(run, run.trips_for(1, each))))
    return Prompts(lengths, passes, np.array(rows))


def _passes_scv(traffic: Traffic, prompts: Prompts) -> float:
    generate = traffic.generate
    mean = prompts.mean_passes + generate.mean - 1
    variance = float(prompts.passes.var()) + max(0.0, generate.square - generate.mean**2)
    return variance / mean**2
