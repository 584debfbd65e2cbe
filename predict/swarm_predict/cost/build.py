"""Build cost tables from a swarm, a model and a workload.

`layer_times` times the layers, `network` the deliveries, `memory` counts what fits; here the engine's pattern puts them
together. Prediction and search read the tables and nothing else, so that a plan is optimal for what is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from swarm_predict.cost import assumptions as words
from swarm_predict.cost.engines import EngineFacts, engine_facts
from swarm_predict.cost.inputs import Inputs
from swarm_predict.cost.machine.cards import card_counts
from swarm_predict.cost.machine.layer_times import LayerColumns, layer_columns
from swarm_predict.cost.machine.memory import needs
from swarm_predict.cost.network.delivery_times import Links, absent
from swarm_predict.cost.network.lost_packets import retransmission
from swarm_predict.cost.network.path_quantiles import mean_excess
from swarm_predict.cost.network.tiles import over_pairs
from swarm_predict.cost.software_overhead import engine_paths, software_ms, visits_ms
from swarm_predict.cost.speculative import drafting_ms, step_width, step_yield
from swarm_predict.cost.tables import CostTables
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import BadPlacement, PredictError, Workload
from swarm_protocol.snapshot.swarm import Floats, Ints, Swarm
from swarm_protocol.units import transfer_ms


@dataclass(frozen=True, slots=True)
class Costs(Inputs):
    """The tables of a pipeline, with the inputs that they were built from."""

    tables: CostTables


@dataclass(frozen=True, slots=True)
class HopParts:
    """One step's activation from i to j, by cause; with `overhead` they add up to about the mean delivery.

    NaN if a part is not known: tables have infinity there, which must not be subtracted from infinity."""

    rtt_ms: Floats  # the idle path, one way of it
    jitter_ms: Floats  # what the mean pays in addition to it
    upload_ms: Floats  # serialisation
    software_ms: Floats  # of the engine, at both ends


def build_tables(swarm: Swarm, model: ModelShape, workload: Workload) -> CostTables:
    """Build the tables over all nodes of the swarm. Raises PredictError for engines without tables."""
    rows, client = _checked(swarm, workload, range(len(swarm)))
    parts = _parts(swarm, model, workload, rows, client, None)

    def deliveries(at: Ints) -> tuple[Floats, ...]:
        few = [rows[k] for k in at]
        paths = engine_paths(swarm, few, workload)
        return _deliveries(swarm, model, workload, parts, paths, few, parts.layer.assumed.visit_ms[at])

    return _assemble(swarm, model, workload, parts, over_pairs(len(rows), deliveries))


def with_uplinks(tables: CostTables, swarm: Swarm, model: ModelShape, workload: Workload) -> CostTables:
    """Return the tables with how long each step occupies uplinks and downlinks. An unknown rate does not limit."""
    engine = engine_facts(workload)
    rows = [swarm.index(name) for name in tables.names]
    up_mbps, down_mbps = (
        np.where(np.isnan(rate), np.inf, rate)
        for rate in (swarm.nodes["up_mbps"][rows], swarm.nodes["down_mbps"][rows])
    )
    width, share, copies = step_width(workload), 1 / step_yield(workload), workload.redundancy
    hop = engine.hop_bytes(model, width, workload.activations) * copies
    result = engine.result_bytes(model, width, workload.activations)
    enter = engine.enter_bytes(model, width, workload.activations) + engine.input_bytes(width, workload.context)

    def kept(size_bytes: float, mbps: Floats) -> Floats:  # per token, as all tables
        return np.array([transfer_ms(size_bytes, rate) * share for rate in mbps])

    named = tables.client is not None
    return replace(
        tables,
        uplink_ms=kept(hop, up_mbps),
        uplink_last_ms=kept(result, up_mbps),
        client_uplink_ms=float(kept(enter * copies, up_mbps)[tables.client]) if tables.client is not None else 0.0,
        downlink_ms=kept(hop, down_mbps),
        downlink_last_ms=kept(result, down_mbps),
        downlink_enter_ms=kept(enter * copies, down_mbps) if named else None,
    )


def explain(swarm: Swarm, model: ModelShape, workload: Workload, nodes: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return what the tables assume about `nodes` (None: all), one line each."""
    rows = range(len(swarm)) if nodes is None else [swarm.index(name) for name in nodes]
    return words.notes(swarm, build_costs(swarm, model, workload, rows), model, workload)


def hop_parts(swarm: Swarm, model: ModelShape, workload: Workload) -> HopParts:
    """Split each hop's time by cause."""
    everybody = range(len(swarm))
    layer = step_columns(swarm, everybody, model, workload, step_width(workload))
    size = engine_facts(workload).hop_bytes(model, step_width(workload), workload.activations) * workload.redundancy

    def parts(at: Ints) -> tuple[Floats, ...]:
        rows = at.tolist()
        paths = engine_paths(swarm, rows, workload)
        software = software_ms(swarm, rows, workload, layer.assumed.visit_ms[at], paths)
        return _parts_of_hops(paths, software, size, workload)

    return HopParts(*over_pairs(len(swarm), parts))


def _parts_of_hops(paths: Links, software: Floats, size: float, workload: Workload) -> tuple[Floats, ...]:
    share = 1 / step_yield(workload)
    none = np.full_like(paths.rtt_p50_ms, np.nan)
    total = paths.delivery_ms(size, workload.slow_start)
    upload = paths.serialisation_ms(size)
    upload = np.where(paths.hop_known, np.clip(total - paths.hop_oneway_ms(), 0.0, None), upload)
    upload = np.where(np.isfinite(upload), upload, np.nan)  # of an unmeasured rate
    varies = mean_excess(paths.rtt_min_ms, paths.rtt_p50_ms, paths.rtt_p95_ms, paths.jitter_ms) / 2
    sizes = np.full_like(none, size)
    window = paths.lossy_window_ms(size)
    mended = window + np.nan_to_num(
        retransmission(np.nan_to_num(paths.loss), sizes, paths.rtt_p50_ms, rate_mbps=paths.rate_mbps).mean_ms
    )
    by_hop = mean_excess(paths.hop_min_ms, paths.hop_p50_ms, paths.hop_p95_ms, none)
    # the median of a hop is in `upload` already; what is left is the tail above it and the median above the idle path
    by_hop += np.nan_to_num((paths.rtt_p50_ms - paths.rtt_min_ms) / 2 - (paths.hop_p50_ms - paths.hop_min_ms))
    jitter = np.where(paths.hop_known, np.clip(by_hop, 0.0, None), varies) + mended
    for matrix in (jitter, software):
        np.fill_diagonal(matrix, 0.0)
    paced = np.where(paths.hop_known, 0.0, paths.pacing_ms(size))
    return (paths.oneway_min_ms + paced) * share, jitter * share, upload * share, software * share


def step_columns(swarm: Swarm, rows: Sequence[int], model: ModelShape, workload: Workload, width: int) -> LayerColumns:
    """Return layer times of a decode step of `width` tokens: in a loop, and the extra time after a pause.

    A machine that computes the head without being the last stage receives a message for it: one more visit.
    """
    layer = layer_columns(
        swarm, rows, model, workload.weights, "decode", width, workload.context,
        engine=workload.engine, priors=workload.priors, tensor_parallel=workload.tensor_parallel,
    )  # fmt: skip
    layer = replace(layer, ms=layer.ms + np.nan_to_num(swarm.nodes["visit_layer_ms"][list(rows)], nan=0.0))
    if engine_facts(workload).head == "last":
        return layer
    return replace(layer, head_ms=layer.head_ms + visits_ms(swarm, rows))


def prompt_columns(swarm: Swarm, rows: Sequence[int], model: ModelShape, workload: Workload) -> LayerColumns:
    """Return the layer times of the computed part of the prompt: all of it, less what a cached prefix saves.

    The rest attends to the prefix, so that it costs what the whole prompt does less what the prefix alone would.
    """

    def columns(tokens: int) -> LayerColumns:
        return layer_columns(
            swarm, rows, model, workload.weights, "prefill", 1, tokens,
            engine=workload.engine, priors=workload.priors, tensor_parallel=workload.tensor_parallel,
        )  # fmt: skip

    whole = columns(workload.prompt)
    if not workload.cached_prompt:
        return whole
    share = (workload.prompt - workload.cached_prompt) / workload.prompt
    saved = columns(workload.cached_prompt).ms
    with np.errstate(invalid="ignore"):
        rest = np.maximum(whole.ms - saved, whole.ms * share)  # never less than its own part
    return replace(whole, ms=np.where(np.isfinite(whole.ms), rest, whole.ms), reading_ms=whole.reading_ms * share)


def client_row(swarm: Swarm, workload: Workload) -> int | None:
    """Return the row of the named client, or None. Raises BadPlacement if it is not in the swarm."""
    name = workload.client if workload.client is not None else swarm.client
    if name is None:
        return None
    try:
        return swarm.index(name)
    except KeyError:
        raise BadPlacement(
            f"there is no node {name!r} to be the client; the swarm has {words.some(swarm.names)}"
        ) from None


def build_costs(
    swarm: Swarm, model: ModelShape, workload: Workload, rows: Sequence[int], layer: LayerColumns | None = None
) -> Costs:
    """Build the tables over some rows; a named client is added to them.

    `layer` may be taken from another build over the same rows, if only paths or memory changed since."""
    at, client = _checked(swarm, workload, rows)
    parts = _parts(swarm, model, workload, at, client, layer)
    paths = engine_paths(swarm, at, workload)
    visit_ms = parts.layer.assumed.visit_ms
    tables = _assemble(swarm, model, workload, parts, _deliveries(swarm, model, workload, parts, paths, at, visit_ms))
    return Costs(
        names=tables.names,
        engine=parts.engine,
        rows=tuple(at),
        client=client,
        layer=parts.layer,
        links=paths,
        needs=needs(model, workload, parts.engine),
        vram_bytes=swarm.nodes["vram_bytes"][at],
        tables=tables,
    )


def _checked(swarm: Swarm, workload: Workload, rows: Sequence[int]) -> tuple[list[int], int | None]:
    """Return (rows with the named client's, its position or None)."""
    check(workload)
    engine = engine_facts(workload)
    if engine.pattern == "all-reduce":
        raise PredictError(f"{engine.name} has no stages to place; predict it with a placement of the nodes that share")
    named = client_row(swarm, workload)
    at = list(rows)
    if named is not None and named not in at:
        at.append(named)
    return at, None if named is None else at.index(named)


def check(workload: Workload) -> None:
    """Validate a workload. Raises PredictError for values out of range."""
    for name, least in (("context", 0), ("prompt", 1), ("batch", 1), ("streams", 1), ("draws", 1)):
        value = getattr(workload, name)
        if value < least:
            raise PredictError(f"{name} is {value}; it must be at least {least}")
    if not 0 < workload.compute_scale < float("inf"):
        raise PredictError(f"compute_scale is {workload.compute_scale}; it must be above 0")
    for name in ("hop_overhead_ms", "client_ms", "offload_gbps", "draft_ms", "proof_ms", "model_error"):
        if not 0 <= getattr(workload, name) < float("inf"):
            raise PredictError(f"{name} is {getattr(workload, name)}; it must be 0 or more")
    for name, least in (
        ("redundancy", 1), ("draft_tokens", 0), ("prefill_chunk", 0), ("windows", 1), ("tree_branches", 1),
    ):  # fmt: skip
        if getattr(workload, name) < least:
            raise PredictError(f"{name} is {getattr(workload, name)}; it must be at least {least}")
    for name in ("spot_check", "draft_accept", "tree_accept"):
        if not 0 <= getattr(workload, name) <= 1:
            raise PredictError(f"{name} is {getattr(workload, name)}; it must be from 0 to 1")
    if any(not 0 <= chance <= 1 for chance in workload.draft_profile):
        raise PredictError(f"draft_profile is {workload.draft_profile}; each must be from 0 to 1")
    if not 0 <= workload.cached_prompt < workload.prompt:
        raise PredictError(
            f"cached_prompt is {workload.cached_prompt}; it must be from 0 to below the prompt of {workload.prompt}"
        )
    if workload.offload_cache and not workload.offload_gbps:
        raise PredictError("the offloaded KV cache is read at some rate; give it with --offload-gbps")
    _check_windows(workload)


def _check_windows(workload: Workload) -> None:
    """Refuse windows in flight if the engine sends none ahead, or if that is not modelled."""
    if workload.windows == 1:
        return
    if not workload.draft_tokens:
        raise PredictError(
            f"{workload.windows} windows in flight verify draft tokens; set their number with --draft K:A:MS"
        )
    if engine_facts(workload).pattern != "chain":
        raise PredictError(
            f"windows in flight are modelled for pipelines, not for {workload.engine}; leave out --windows"
        )
    if workload.batch > 1 or workload.redundancy > 1 or workload.offload_gbps:
        what = "--batch" if workload.batch > 1 else "--redundancy" if workload.redundancy > 1 else "--offload-gbps"
        raise PredictError(f"windows in flight apply to one sequence that is computed once; leave out {what}")


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the tables are put together from, beside the deliveries."""

    engine: EngineFacts
    rows: list[int]
    in_loop: int | None  # the client's position, if it is in the loop
    layer: LayerColumns
    width: int  # tokens of a step
    share: float  # of a step, so that all times are per token


def _parts(
    swarm: Swarm, model: ModelShape, workload: Workload, rows: list[int], client: int | None, layer: LayerColumns | None
) -> _Parts:
    engine, width = engine_facts(workload), step_width(workload)
    if layer is None:
        layer = step_columns(swarm, rows, model, workload, width)
    return _Parts(engine, rows, client if engine.client_in_loop else None, layer, width, 1 / step_yield(workload))


def _deliveries(
    swarm: Swarm, model: ModelShape, workload: Workload, parts: _Parts, paths: Links, rows: list[int], visit_ms: Floats
) -> tuple[Floats, ...]:
    """Return the deliveries between `rows` of (an activation, a result, what a client sends, if it is in the loop)."""
    engine, width, copies = parts.engine, parts.width, workload.redundancy
    software = software_ms(swarm, rows, workload, visit_ms, paths)
    engine_share = parts.layer.assumed.paths[paths.kinds]

    def deliver(size_bytes: float) -> Floats:
        ms = paths.usual_delivery_ms(size_bytes, workload.slow_start) * engine_share + software
        np.fill_diagonal(ms, 0.0)
        return ms * parts.share

    hop = deliver(engine.hop_bytes(model, width, workload.activations) * copies)
    back = deliver(engine.result_bytes(model, width, workload.activations))
    if parts.in_loop is None:
        return hop, back
    beside = engine.input_bytes(width, workload.context)
    return hop, back, deliver((engine.enter_bytes(model, width, workload.activations) + beside) * copies)


def _assemble(
    swarm: Swarm, model: ModelShape, workload: Workload, parts: _Parts, deliveries: tuple[Floats, ...]
) -> CostTables:
    engine, rows, layer, share, in_loop = parts.engine, parts.rows, parts.layer, parts.share, parts.in_loop
    need = needs(model, workload, engine)
    vram = np.where(absent(swarm)[rows], 0.0, swarm.nodes["vram_bytes"][rows])
    counts = card_counts(swarm, rows)
    head = layer.head_ms * workload.compute_scale * share
    hop, back, *enter = deliveries
    zeros = np.zeros(len(rows))
    client_head = 0.0
    if engine.head != "last":
        if in_loop is None:
            # the first stage's machine computes the head, on what it was sent back: f(last, first)
            back = back + head[None, :]
        else:
            client_head = float(head[in_loop])
    return CostTables(
        names=tuple(swarm.facts[row].name for row in rows),
        pattern="star" if engine.pattern == "star" else "chain",
        client=in_loop,
        layers=model.layers,
        layer_ms=(layer.ms * workload.compute_scale + workload.proof_ms * parts.width) * share,
        overhead_ms=visits_ms(swarm, rows) * share,
        capacity=need.capacity(vram, 0.0, counts),
        capacity_first=need.capacity(vram, need.first_bytes, counts),
        capacity_last=need.capacity(vram, need.last_bytes, counts),
        capacity_only=need.capacity(vram, need.only_bytes, counts),
        hop_ms=hop,
        back_ms=back,
        enter_ms=zeros if in_loop is None else enter[0][in_loop, :].copy(),
        leave_ms=zeros if in_loop is None else hop[:, in_loop].copy(),
        final_ms=zeros if in_loop is None else back[:, in_loop].copy(),
        head_ms=head if engine.head == "last" else zeros,
        client_head_ms=client_head + (workload.client_ms + drafting_ms(workload)) * share,
        client_alone_ms=(workload.client_ms + drafting_ms(workload)) * share,
        first_head_ms=head if engine.head != "last" and in_loop is None else None,
    )
