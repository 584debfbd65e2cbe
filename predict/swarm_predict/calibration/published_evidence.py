"""Convert a published result to a question for the predictor (swarm, placement, workload), and divide its time into
parts.

The fit needs the parts: time = Σ milliseconds by the data sheet · exp(effects) + fixed time. A test compares their sum
at the fitted medians with the prediction's tables, so that a coefficient means the same in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swarm_predict.calibration.published import PROMPT_TOKENS, Result
from swarm_predict.cost.all_reduce import messages, software_rounds
from swarm_predict.cost.engines import ENGINES, EngineFacts, all_reduce_of, engine_facts
from swarm_predict.cost.machine.cards import exchange_ms, shared_by
from swarm_predict.cost.machine.roofline import LayerWork, head_work, least_ms
from swarm_predict.cost.machine_groups import ALL_REDUCES_PER_LAYER
from swarm_predict.cost.network.delivery_times import Links, links
from swarm_predict.forecast.forward_pass.pipeline import trips_of
from swarm_predict.priors.factors import (
    FASTEST,
    RDMA_SHARE,
    Load,
    Machine,
    canonical,
    effects,
    launch_rounds,
    load_of,
    over_rdma,
)
from swarm_predict.types import Engine, Placement, Stage, Workload
from swarm_protocol.snapshot.swarm import Kind, LayerTime, NodeFacts, Path, Swarm
from swarm_protocol.units import BYTES_PER_GIB

ROOM_GIB = 4096.0  # it fitted the publisher's machine
POSSIBLE = 0.9  # of the least time by the data sheets: a faster result was not measured as described


@dataclass(frozen=True, slots=True)
class Part:
    """Milliseconds (or messages), times the exponential of the sum of these effects."""

    times: float
    effects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    result: Result
    parts: tuple[Part, ...]
    fixed_ms: float  # paths, measured layers, and the least time of reading
    least_ms: float  # least time by the data sheets: bytes over bandwidth, and the paths

    @property
    def refused(self) -> str | None:
        """Return why this cannot have been measured as described; None if it can."""
        took = self.result.measured_ms
        if took >= POSSIBLE * self.least_ms:
            return None
        return (
            f"{self.result.label} at {self.result.tokens_per_s:g} tok/s: {took:.0f} ms, but reading its weights over "
            f"the memory bandwidth of {' + '.join(self.result.nodes)} takes {self.least_ms:.0f} ms; "
            "another model, format, number of streams or speculation"
        )


def swarm_of(result: Result) -> Swarm:
    """Return the swarm as a swarm file would describe it: names, data sheets, one round trip and rate for all."""
    names = [f"n{k}" for k in range(len(result.nodes))]
    facts = tuple(
        NodeFacts(name, name, f"{result.cards}x {device}" if result.cards > 1 else device, layers=_layers(result, k))
        for k, (name, device) in enumerate(zip(names, result.nodes, strict=True))
    )
    swarm = Swarm.empty(facts, source=result.system)
    swarm.nodes["vram_bytes"][:] = ROOM_GIB * BYTES_PER_GIB
    swarm.nodes["mem_gbps"][:] = [device.mem_gbps for device in result.devices]
    swarm.nodes["tflops"][:] = [device.tflops for device in result.devices]
    if len(names) > 1:
        swarm.links["rtt_min_ms"][:] = swarm.links["rtt_p50_ms"][:] = result.rtt_ms
        swarm.links["kind"][:] = Kind.MEASURED
        swarm.links["path"][:] = Path.DIRECT
        swarm.links["mbps"][:] = result.mbps
        swarm.links["mbps_kind"][:] = Kind.MEASURED
        swarm.links["jitter_ms"][:] = swarm.links["loss"][:] = 0.0
    if not result.split[0]:
        swarm.client = "n0"
    return swarm


def _layers(result: Result, k: int) -> tuple[LayerTime, ...]:
    """Return the layer times that the publisher measured on one node alone, including the head."""
    if not result.layer_ms:
        return ()
    named = (result.model.name, workload_of(result).weights)
    layer = LayerTime(named[0], "decode", result.batch, result.context, result.layer_ms[k], dtype=named[1])
    return layer, LayerTime(named[0], "head", result.batch, 0, 0.0, dtype=named[1])


def placement_of(result: Result) -> Placement:
    if shares(result):
        return tuple(Stage(f"n{k}", 0, result.model.layers - 1) for k in range(len(result.nodes)))
    stages, first = [], 0
    for k, count in enumerate(result.split):
        if count:
            stages.append(Stage(f"n{k}", first, first + count - 1))
            first += count
    return tuple(stages)


def workload_of(result: Result) -> Workload:
    named = result.software if result.software in ENGINES else result.engine
    engine: Engine = named  # type: ignore[assignment]
    return Workload(
        weights=result.weights,
        engine=engine,
        context=result.context,
        prompt=PROMPT_TOKENS,
        batch=result.batch,
        activations=result.activations,
    )


def machines_of(result: Result) -> list[Machine]:
    return [
        Machine(device.device_class, canonical(name), result.host, together(result))
        for name, device in zip(result.nodes, result.devices, strict=True)
    ]


def together(result: Result) -> int:
    """Return how many cards of a host split every layer."""
    return shared_by(f"{result.cards}x {result.nodes[0]}", result.model, workload_of(result).engine)


def software_share(result: Result) -> float:
    """Return the part of a message's software that is left where both kernels are left out."""
    rows = range(len(result.nodes))
    return RDMA_SHARE if over_rdma(result.software, swarm_of(result), rows) else 1.0


def shares(result: Result) -> bool:
    """Return the shares of tensor parallelism over several machines."""
    return engine_facts(workload_of(result)).pattern == "all-reduce" and len(result.nodes) > 1


def evidence_of(result: Result) -> Evidence:
    if result.metric == "prompt":
        return _of_prompt(result)
    weights = workload_of(result).weights
    machines, load = machines_of(result), load_of(result.model, weights, result.software)
    step = LayerWork(result.model, "decode")(weights, result.batch, result.context)
    head = head_work(result.model, weights, result.batch)
    cards = together(result)
    layer_ms = [float(least_ms(step, d.mem_gbps, d.tflops, "decode")) / cards for d in result.devices]
    head_ms = [float(least_ms(head, d.mem_gbps, d.tflops, "decode")) / cards for d in result.devices]
    paths = links(swarm_of(result), range(len(result.nodes)))
    if shares(result):
        return _of_shares(result, machines, load, layer_ms, head_ms, paths)
    engine = engine_facts(workload_of(result))
    client, used = (0, [k for k, count in enumerate(result.split) if count]) if not result.split[0] else (None, None)
    order = used or list(range(len(result.nodes)))
    ends = _head_at(engine, order, client)
    parts: list[Part] = []
    fixed_ms = 0.0
    measured_ms = sum(count * ms for count, ms in zip(result.split, result.layer_ms, strict=False))
    for k in () if result.layer_ms else dict.fromkeys([*order, ends]):
        reading = result.split[k] * layer_ms[k] + (head_ms[k] if k == ends else 0.0)
        parts.append(Part(reading, effects("decode", machines[k], load)))
        fixed_ms += FASTEST * reading
        parts.append(Part(result.split[k] * launch_rounds(cards), effects("launch", machines[k], load)))
        fixed_ms += result.split[k] * exchange_ms(result.nodes[k], cards, result.batch, result.model)
    least = sum(part.times for part in parts if part.effects[0] == "decode")
    width = result.batch
    sizes = (
        engine.hop_bytes(result.model, width, result.activations),
        engine.enter_bytes(result.model, width, result.activations),
        engine.result_bytes(result.model, width, result.activations),
    )
    where = order if client is None else [*order, client]
    paths_ms = 0.0
    in_loop = None if client is None or not engine.client_in_loop else len(order)
    for trip in trips_of(engine, len(order), in_loop, *sizes):
        src, dst = where[trip.src], where[trip.dst]
        paths_ms += float(paths.delivery_ms(trip.size_bytes)[src, dst])
        parts.append(Part(software_share(result), effects("visit", machines[dst], load)))
    paths_ms += measured_ms
    return Evidence(result, tuple(parts), paths_ms + fixed_ms, least + paths_ms)


def _head_at(engine: EngineFacts, order: list[int], client: int | None) -> int:
    if engine.head == "last":
        return order[-1]
    return order[0] if client is None or not engine.client_in_loop else client


def _of_shares(
    result: Result, machines: list[Machine], load: Load, layer_ms: list[float], head_ms: list[float], paths: Links
) -> Evidence:
    """Return the parts of groups: all wait for the slowest share, and a round for its slowest message."""
    count, layers = len(result.nodes), result.model.layers
    whole = [(layers * layer + head) / count for layer, head in zip(layer_ms, head_ms, strict=True)]
    slowest = int(np.argmax(whole))
    work = workload_of(result)
    size = engine_facts(work).hop_bytes(result.model, result.batch, result.activations)
    plan = messages(all_reduce_of(work), count, size)
    rounds = ALL_REDUCES_PER_LAYER * layers * software_rounds(all_reduce_of(work), count)
    paths_ms = sum(
        max(float(paths.delivery_ms(sent)[a, b]) for a, b, sent in here) for here in plan
    ) * ALL_REDUCES_PER_LAYER * layers  # fmt: skip
    parts = (
        Part(whole[slowest], effects("decode", machines[slowest], load)),
        Part(float(layers), effects("launch", machines[slowest], load)),
        Part(rounds * software_share(result), effects("reduce", machines[slowest], load)),
    )
    return Evidence(result, parts, paths_ms + FASTEST * whole[slowest], whole[slowest] + paths_ms)


def _of_prompt(result: Result) -> Evidence:
    """Return the parts of one machine's prompt; for several machines no published result is complete enough."""
    load, machine, device = (
        load_of(result.model, workload_of(result).weights, result.software),
        machines_of(result)[0],
        result.devices[0],
    )
    work = LayerWork(result.model, "prefill")(workload_of(result).weights, 1, PROMPT_TOKENS)
    layer_ms = float(least_ms(work, device.mem_gbps, device.tflops, "prefill")) / together(result)
    part = Part(result.model.layers * layer_ms, effects("prefill", machine, load))
    return Evidence(result, (part,), 0.0, part.times)
