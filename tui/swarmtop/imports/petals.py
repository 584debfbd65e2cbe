"""Read the state of a Petals health monitor: servers as nodes, pings as links, throughputs as layer times.

The JSON that a monitor serves at /api/v1/state (health.petals.dev: health.py, state_updater.py). Its figures:

    inference_rps   tokens/s through one block, one sequence, 100 steps from an empty cache
    forward_rps     the same for 1024 tokens at once, without a cache: a prompt chunk
    network_rps     min(upload, download) of a speed test, in fp16 activations; 100 Mbit/s where that failed
    next_pings      seconds until a server's DHT answers: a round trip and its software
    cache_tokens_left  halves (K or V) of one block's cache for one token

The first three are from petals server/throughput.py. Memory is what a server uses for its blocks now plus the free
cache: it may have more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import WEIGHT_FORMATS
from swarm_protocol.units import BYTES_PER_GIB
from swarmtop.imports.findings import Found, ImportProblem, LayerFound, LinkFound, Names, NodeFound

FAILED_SPEED_TEST_MBPS: Final = 100.0  # petals: default_speed of measure_network_rps
MEAN_CONTEXT: Final = 50  # of 100 steps from an empty cache
FORWARD_TOKENS: Final = 1024
UNKNOWN_RTT_MS: Final = 300.0  # petals: default_delay 0.15 s of one way, where no ping is known
FINE_TUNED: Final = {
    "petals-team/StableBeluga2": "llama-2-70b"
}  # names on the public swarm that do not say their shape
_BITS_PER_VALUE: Final = 16
_DTYPES: Final = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}

Rate = Annotated[float, Meta(ge=0, le=1e9)]
Block = Annotated[int, Meta(ge=0, le=100_000)]


class _Info(msgspec.Struct):
    throughput: Rate | None = None
    network_rps: Rate | None = None
    forward_rps: Rate | None = None
    inference_rps: Rate | None = None
    public_name: str | None = None
    version: str | None = None
    torch_dtype: str | None = None
    quant_type: str | None = None
    using_relay: bool | None = None
    cache_tokens_left: Annotated[int, Meta(ge=0)] | None = None
    next_pings: dict[str, float] | None = None


class _Span(msgspec.Struct):
    start: Block
    end: Block  # not included
    server_info: _Info


class _Row(msgspec.Struct):
    peer_id: str
    state: str
    span: _Span


class _Report(msgspec.Struct):
    name: str
    num_blocks: Block
    server_rows: list[_Row]
    state: str = ""
    dht_prefix: str | None = None
    repository: str | None = None


class _State(msgspec.Struct):
    model_reports: list[_Report]
    last_updated: Any = None


@dataclass(frozen=True, slots=True)
class Served:
    """A monitor's report on one model, and the route of a Petals client through it."""

    found: Found
    weights: str  # of most servers
    route: str | None  # a placement; None: some block is not served


@dataclass(frozen=True, slots=True)
class Reported:
    name: str
    blocks: int
    online: int  # servers


def models(data: bytes) -> list[Reported]:
    """Return every model that the monitor knows, the one with most servers first. Raises ImportProblem."""
    known = [
        Reported(report.name, report.num_blocks, sum(row.state == "online" for row in report.server_rows))
        for report in _decode(data)
    ]
    return sorted(known, key=lambda model: -model.online)


def read(data: bytes, name: str, shape: ModelShape) -> Served:
    """Read one model. `name`: one of `models`; `shape`: that model's. Raises ImportProblem."""
    report = next((each for each in _decode(data) if each.name == name), None)
    if report is None:
        raise ImportProblem(f"this monitor knows no model {name!r}; it knows {', '.join(m.name for m in models(data))}")
    if report.num_blocks != shape.layers:
        raise ImportProblem(
            f"{name} has {report.num_blocks} blocks there and {shape.name} has {shape.layers} layers; correct --model"
        )
    rows = [row for row in report.server_rows if row.state == "online" and row.span.end > row.span.start]
    if not rows:
        raise ImportProblem(f"no server of {name} is online; there is nothing to import")
    names = Names()
    for row in rows:
        names.of(row.peer_id, row.span.server_info.public_name or f"peer-{row.peer_id[-6:]}")
    formats = [_weights(row.span.server_info) for row in rows]
    nodes = tuple(_node(row, names.of(row.peer_id), shape, weights) for row, weights in zip(rows, formats, strict=True))
    links = tuple(_links(rows, names))
    weights = max(set(formats), key=formats.count)
    route = _route(rows, names, report.num_blocks)
    gone = len(report.server_rows) - len(rows)
    notes = [
        f"{len(rows)} servers of {name} online{f', {gone} not' if gone else ''}; {len(links)} pings between them",
        "pings are of the DHT and hold its software: the paths themselves are a little faster",
        "memory is what the servers use now; layer times are theirs, measured with a short cache",
    ]
    if any(_speed_test_failed(row.span.server_info, shape) for row in rows):
        notes.append(
            "servers whose rate is exactly Petals' default (100 Mbit/s) have none here: their speed test failed"
        )
    if relayed := [names.of(row.peer_id) for row in rows if row.span.server_info.using_relay]:
        notes.append(f"behind a relay: {', '.join(relayed)[:200]}")
    found = Found(nodes, links, tuple(notes), f"a Petals health monitor, {name}")
    return Served(found, weights, route)


def _decode(data: bytes) -> list[_Report]:
    try:
        reports = msgspec.json.decode(data, type=_State).model_reports
    except msgspec.DecodeError as error:
        raise ImportProblem(f"this is not a state of a Petals health monitor ({error})") from error
    if not reports:
        raise ImportProblem("this monitor reports no model")
    return reports


def _weights(info: _Info) -> str:
    quant = (info.quant_type or "none").lower()
    if quant in WEIGHT_FORMATS:
        return quant
    return _DTYPES.get((info.torch_dtype or "").removeprefix("torch."), "bf16")


def _speed_test_failed(info: _Info, shape: ModelShape) -> bool:
    rate = _mbps(info, shape)
    return rate is not None and abs(rate - FAILED_SPEED_TEST_MBPS) < 1e-6 * FAILED_SPEED_TEST_MBPS


def _mbps(info: _Info, shape: ModelShape) -> float | None:
    return info.network_rps * shape.hidden * _BITS_PER_VALUE / 1e6 if info.network_rps else None


def _node(row: _Row, name: str, shape: ModelShape, weights: str) -> NodeFound:
    info, blocks = row.span.server_info, row.span.end - row.span.start
    held = shape.stage_bytes(row.span.start, min(row.span.end, shape.layers) - 1, weights)
    cache = (info.cache_tokens_left or 0) * shape.kv_bytes_per_token() / 2
    rate = None if _speed_test_failed(info, shape) else _mbps(info, shape)
    layers = []
    if info.inference_rps:
        layers.append(LayerFound(1e3 / info.inference_rps, shape.name, "decode", MEAN_CONTEXT, weights))
    if info.forward_rps:
        layers.append(
            LayerFound(1e3 * FORWARD_TOKENS / info.forward_rps, shape.name, "prefill", FORWARD_TOKENS, weights)
        )
    relay = ", behind a relay" if info.using_relay else ""
    return NodeFound(
        name,
        vram_gib=(held + cache) / BYTES_PER_GIB,
        up_mbps=rate,
        down_mbps=rate,
        layers=tuple(layers),
        remark=f"serves {row.span.start}-{row.span.end - 1} ({blocks} blocks, {weights}{relay})",
    )


def _links(rows: list[_Row], names: Names) -> list[LinkFound]:
    here = {row.peer_id for row in rows}
    return [
        LinkFound(names.of(row.peer_id), names.of(peer), rtt_ms=seconds * 1e3)
        for row in rows
        for peer, seconds in (row.span.server_info.next_pings or {}).items()
        if peer in here and peer != row.peer_id and 0 <= seconds < 3600
    ]


def _route(rows: list[_Row], names: Names, blocks: int) -> str | None:
    """Apply Petals' own rule for one sequence (client/routing/sequence_manager.py): least sum of block times and half
    round trips between servers; a server is used to the end of its span. The client's pings are not known."""
    best: dict[tuple[str, int], tuple[float, str]] = {}  # (server, block it is entered at) → cost of the rest, route

    def onward(block: int, here: _Row | None) -> tuple[float, str] | None:
        if block == blocks:
            return 0.0, ""
        options = []
        for row in rows:
            if row is not here and row.span.start <= block < row.span.end and (row.peer_id, block) in best:
                cost, route = best[row.peer_id, block]
                pings = (here.span.server_info.next_pings or {}) if here is not None else {}
                hop_ms = 0.0 if here is None else pings.get(row.peer_id, UNKNOWN_RTT_MS / 1e3) * 1e3 / 2
                options.append((cost + hop_ms, route))
        return min(options, default=None)

    for block in range(blocks - 1, -1, -1):
        for row in rows:
            rps = row.span.server_info.inference_rps
            if row.span.start <= block < row.span.end and rps:
                rest = onward(row.span.end, row)
                if rest is not None:
                    piece = f"{names.of(row.peer_id)}:{block}-{row.span.end - 1}"
                    own = (row.span.end - block) * 1e3 / rps
                    best[row.peer_id, block] = (own + rest[0], f"{piece},{rest[1]}".rstrip(","))
    first = onward(0, None)
    return first[1] if first is not None else None
