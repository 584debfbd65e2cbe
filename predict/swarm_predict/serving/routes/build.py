"""Build the `Route` of a placement: its passes at every number of sequences, its prompts, and how many requests fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.machine.cards import with_one_size
from swarm_predict.cost.speculative import outcomes, window_yields
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import check_placement
from swarm_predict.serving.cycle_time import cycle_ms
from swarm_predict.serving.routes.groups import GroupPasses
from swarm_predict.serving.routes.kv_cache_capacity import MAX_SEQUENCES, Room, most_sequences
from swarm_predict.serving.routes.pipeline import PipelinePasses
from swarm_predict.serving.routes.route import Prompts, Route
from swarm_predict.serving.routes.verify_windows import cycles_of, passes_of
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import Placement, PredictError, Workload
from swarm_protocol.snapshot.swarm import Swarm

PROMPTS: Final = 24  # lengths of prompts that are priced
MICRO_BATCHES: Final = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64)
WORTH: Final = 0.01  # of the throughput: more micro-batches than it takes for that are not used
# They keep as many micro-batches in flight as there are stages: vLLM v1/executor `max_concurrent_batches`, SGLang
# managers/scheduler_pp_mixin `pp_loop_size`.
AS_STAGES: Final = frozenset({"vllm", "sglang", "vllm-tp", "sglang-tp"})
# Their caches are reserved for the longest request, in slots or at the start of a session; others page them.
RESERVES: Final = frozenset({
    "llama.cpp", "mesh-llm", "prima.cpp", "petals", "exo", "exo-0", "exo-rdma", "exo-tensor", "exo-tensor-tcp", "mlx",
    "mlx-tensor", "shard", "distributed-llama",
})  # fmt: skip
# One request at a time, the others wait: distributed-llama 8d624a7 src/dllama-api.cpp accepts a connection when it has
# answered the one before.
ONE_BY_ONE: Final = frozenset({"distributed-llama"})
LOADED: Final = 2  # micro-batches whose caches are in memory where caches lie outside: one computes, one is read


@dataclass(frozen=True, slots=True)
class Offer:
    """A placement under given requests; how many of them it may hold is still open."""

    placement: Placement
    workload: Workload
    traffic: Traffic
    passes: PipelinePasses | GroupPasses
    rooms: tuple[Room, ...]
    tokens: float  # of a cache that room is needed for


def offer_of(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, traffic: Traffic) -> Offer:
    """Price a placement for requests of these lengths.

    Raises BadPlacement, NotMeasured, PredictError for an option that is not modelled with many users."""
    _check(workload, traffic)
    check_placement(placement, model, swarm, workload.engine)
    placement = tuple(sorted(placement, key=lambda stage: stage.first))
    workload = with_one_size(swarm, model, placement, workload)
    guesses = workload.draft_tokens * workload.tree_branches
    load = replace(
        workload,
        # a window reads the cache once, whatever it verifies; a step of that width would read it for each token
        context=max(1, round(traffic.cached_tokens / (guesses + 1))),
        prompt=max(1, round(traffic.prompt.mean)),
        batch=1,
        streams=1,
        windows=1,
        cached_prompt=min(workload.cached_prompt, max(0, round(traffic.prompt.mean) - 1)),
    )
    shares = engine_facts(workload).pattern == "all-reduce"
    passes = (GroupPasses if shares else PipelinePasses)(swarm, model, placement, load)
    tokens = (traffic.longest_tokens if load.engine in RESERVES else traffic.cached_tokens) + guesses * workload.windows
    return Offer(placement, workload, traffic, passes, tuple(passes.rooms(tokens)), tokens)


def route_of(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, traffic: Traffic) -> Route:
    """Return what a placement offers to requests of these lengths.

    Raises as `offer_of` does, and DoesNotFit if not even one request has room."""
    offer = offer_of(swarm, model, placement, workload, traffic)
    return offered(offer, offer.rooms)


def offered(offer: Offer, rooms: Sequence[Room]) -> Route:
    """Return the route of an offer with the caches that `rooms` allow. Raises DoesNotFit."""
    traffic, passes = offer.traffic, offer.passes
    most, limit = _most(offer, rooms)
    sizes = [0, *_sizes(max(1, most))]
    prompts = _prompts(offer)
    mean, variance = _decode_passes(offer)
    whole = prompts.mean_passes + mean
    route = Route(
        stations=passes.stations,
        between_ms=passes.between_ms,
        sizes=np.array(sizes, np.float64),
        decode_ms=np.array([np.zeros(len(passes.stations)), *(passes.decode_ms(size) for size in sizes[1:])]),
        prompts=prompts,
        decode_passes=mean,
        passes_scv=(float(prompts.passes.var()) + max(0.0, variance)) / whole**2,
        most_sequences=most,
        micro_batches=1,
        limit=limit,
        tokens_a_pass=(traffic.generate.mean - 1) / mean,
        windows=offer.workload.windows,
        notes=passes.notes,
    )
    asked = traffic.micro_batches or (passes.steps if offer.workload.engine in AS_STAGES else 0)
    # windows of one sequence travel in different micro-batches
    return replace(route, micro_batches=asked or max(fills(replace(route, windows=1)), offer.workload.windows))


def _decode_passes(offer: Offer) -> tuple[float, float]:
    """Return (mean, variance) of the passes of an answer, in each of which a sequence has all its windows verified."""
    load, answers = offer.workload, offer.traffic.generate
    if load.windows == 1:
        return passes_of(answers, window_yields(load))
    return cycles_of(answers, outcomes(load), load.windows)


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
    for given, option in (
        (workload.redundancy > 1, "--redundancy"),
        (workload.batch > 1, "--batch"), (workload.proof_ms, "--proof-ms"), (workload.spot_check, "--spot-check"),
        (workload.streams > 1, "--streams"),
    ):  # fmt: skip
        if given:
            raise PredictError(f"{option} is not modelled with arrivals; leave one of them out")
    if workload.windows > 1 and not workload.draft_tokens:
        raise PredictError(
            f"{workload.windows} windows in flight verify draft tokens; set their number with --draft K:A:MS"
        )
    if workload.windows > 1 and engine_facts(workload).pattern != "chain":
        raise PredictError(
            f"windows in flight are modelled for pipelines, not for {workload.engine}; leave out --windows"
        )
    if 0 < traffic.micro_batches < workload.windows:
        raise PredictError(
            f"{workload.windows} windows travel in as many micro-batches; raise --micro-batches or lower --windows"
        )
    if workload.draft_tokens and workload.engine in ONE_BY_ONE:
        raise PredictError(f"{workload.engine} has no speculative decoding; leave out --draft")
    if workload.offload_gbps and not workload.offload_cache:
        raise PredictError("with arrivals only the KV cache can be offloaded; add --offload-cache")
    if workload.offload_cache and workload.draft_tokens:
        raise PredictError("--draft is not modelled with an offloaded cache; leave one of them out")
    if workload.offload_cache and engine_facts(workload).pattern == "all-reduce":
        raise PredictError(f"offloading is not modelled for {workload.engine}; leave out --offload-cache")
    if workload.offload_cache and not traffic.micro_batches:
        raise PredictError("micro-batches take turns in memory where the cache is offloaded; add --micro-batches")


def _sizes(most: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12 … up to `most`, and that."""
    found, size = [1, 2], 2
    while size < most:
        found += [size + size // 2, size * 2]
        size *= 2
    return sorted({size for size in found if size < most} | {1, max(2, most)})


def _most(offer: Offer, rooms: Sequence[Room]) -> tuple[int, str]:
    """Return (sequences at once, the machine whose memory allows no more, or what else does)."""
    traffic = offer.traffic
    least, limit = most_sequences(rooms, offer.tokens)
    most = int(least)
    if offer.workload.offload_cache:  # one micro-batch computes, the next one is read
        most = min(MAX_SEQUENCES, max(1, int(least / LOADED) * traffic.micro_batches))
    if offer.workload.engine in ONE_BY_ONE:
        return 1, ""
    if traffic.most_sequences and traffic.most_sequences <= most:
        return traffic.most_sequences, ""
    return most, limit if most < MAX_SEQUENCES else ""


def _prompts(offer: Offer) -> Prompts:
    """Price the parts of prompts. Raises NotMeasured if no prefill time is known."""
    load, lengths = offer.workload, np.array(offer.traffic.prompt.thinned(PROMPTS).values)
    passes = np.ones(len(lengths))
    if load.prefill_chunk:
        prompts = np.maximum(1, np.round(lengths))
        tokens = prompts - np.minimum(load.cached_prompt, prompts - 1)
        passes = np.ceil(tokens / load.prefill_chunk)
    rows = [offer.passes.part_ms(float(length), float(parts)) for length, parts in zip(lengths, passes, strict=True)]
    return Prompts(lengths, passes, np.array(rows))
