"""A swarm written by hand in TOML, for planning what one does not have yet: text in, Swarm out.

The format is in docs/swarm-file.md. Unknown keys are refused, so that a typing error never passes as "not known".
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from swarm_protocol.snapshot.swarm import Kind, LayerTime, NodeFacts, Path, Swarm
from swarm_protocol.text import is_name
from swarm_protocol.units import BYTES_PER_GIB

Positive = Annotated[float, Meta(gt=0, le=1e12)]
NotNegative = Annotated[float, Meta(ge=0, le=1e12)]
ANY = "*"


class SwarmFileError(ValueError):
    """The file is no swarm; the text is one line that says what and where."""


class _Layer(msgspec.Struct, forbid_unknown_fields=True):
    ms: Positive
    phase: Literal["decode", "prefill"] = "decode"
    model: str = ANY
    batch: Annotated[int, Meta(ge=1)] = 1
    context: Annotated[int, Meta(ge=0)] = 128
    tokens: Annotated[int, Meta(ge=1)] | None = None  # of a prefill chunk; `context` is read where it is missing
    ms_p95: Positive | None = None
    dtype: str = ANY  # of the weights it was measured with; "*": whatever --weights says


class _Node(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    vram_gib: NotNegative | None = None
    up_mbps: Positive | None = None
    down_mbps: Positive | None = None
    mem_gbps: Positive | None = None
    tflops: Positive | None = None
    overhead_ms: NotNegative = 0.0
    device: str = ""
    region: str = ""
    layer: tuple[_Layer, ...] = ()


class _Link(msgspec.Struct, forbid_unknown_fields=True, rename={"src": "from", "dst": "to"}):
    src: str
    dst: str
    rtt_ms: NotNegative | None = None
    jitter_ms: NotNegative | None = None
    loss: Annotated[float, Meta(ge=0, lt=1)] | None = None
    mbps: Positive | None = None  # measured: what the path carried from one to the other
    hop_ms: NotNegative | None = None  # measured: message of `hop_bytes` until its acknowledgement
    hop_bytes: Annotated[int, Meta(ge=1)] | None = None


class _Client(msgspec.Struct, forbid_unknown_fields=True):
    node: str


Count = Annotated[int, Meta(ge=1, le=10_000_000)]


class ModelTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model whose family nobody knows, in figures."""

    layers: Annotated[int, Meta(ge=1, le=10_000)]
    layer_bytes: Positive | tuple[Positive, ...]  # weights of one layer, all experts; or of each layer in order
    kv_bytes_per_token: NotNegative  # what one token of context takes, all layers together
    hidden: Count  # elements that a stage hands to the next
    vocab: Count
    name: Annotated[str, Meta(min_length=1, max_length=200)] = "model"
    weights: str = "fp16"  # the format that layer_bytes are in
    tied: bool = False  # embedding and LM head are one matrix
    window: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0  # tokens of context that are kept at most; 0: all
    state_bytes: NotNegative = 0.0  # of one sequence, however long, all layers together
    experts: Annotated[int, Meta(ge=0, le=100_000)] = 0  # routed experts of a layer
    experts_active: Annotated[int, Meta(ge=0, le=100_000)] = 0  # for each token
    expert_bytes: NotNegative = 0.0  # of one of them


class _File(msgspec.Struct, forbid_unknown_fields=True):
    node: Annotated[tuple[_Node, ...], Meta(min_length=1, max_length=20_000)]
    link: tuple[_Link, ...] = ()
    client: _Client | None = None
    model: ModelTable | None = None


class _ModelOnly(msgspec.Struct):
    model: ModelTable | None = None


def parse_model(text: str) -> ModelTable | None:
    """The [model] table of a swarm file, whatever else is in it; None: it has none. Raises SwarmFileError."""
    try:
        return msgspec.toml.decode(text.encode(), type=_ModelOnly).model
    except (msgspec.DecodeError, UnicodeError) as error:
        raise SwarmFileError(str(error)) from error


def parse_swarm(text: str, source: str = "") -> Swarm:
    """The swarm that `text` describes. Raises SwarmFileError."""
    try:
        file = msgspec.toml.decode(text.encode(), type=_File)
    except (msgspec.DecodeError, UnicodeError) as error:  # ValidationError is one; bad TOML is another
        raise SwarmFileError(str(error)) from error
    names = [node.name for node in file.node]
    for name in names:
        if not is_name(name):
            raise SwarmFileError(f"node name {name!r} is not 1 to 32 of A-Z a-z 0-9 . _ -")
    for name in names:
        if names.count(name) > 1:
            raise SwarmFileError(f"node {name!r} is there twice; names must differ")
    swarm = Swarm.empty(tuple(_facts(node) for node in file.node), source=source)
    _fill_nodes(swarm, file.node)
    for link in file.link:
        _fill_link(swarm, link)
    if file.client is not None:
        _require(swarm, file.client.node, "[client]")
        swarm.client = file.client.node
    return swarm


def _facts(node: _Node) -> NodeFacts:
    layers = tuple(
        LayerTime(
            model=layer.model,
            phase=layer.phase,
            batch=layer.batch,
            context=layer.tokens if layer.tokens is not None and layer.phase == "prefill" else layer.context,
            ms=layer.ms,
            ms_p95=layer.ms_p95 if layer.ms_p95 is not None else float("nan"),
            dtype=layer.dtype,
        )
        for layer in node.layer
    )
    return NodeFacts(node_id=node.name, name=node.name, device=node.device, region=node.region, layers=layers)


def _fill_nodes(swarm: Swarm, nodes: tuple[_Node, ...]) -> None:
    columns = swarm.nodes
    for i, node in enumerate(nodes):
        if node.vram_gib is not None:
            columns["vram_bytes"][i] = columns["vram_free_bytes"][i] = node.vram_gib * BYTES_PER_GIB
        for column in ("up_mbps", "down_mbps", "mem_gbps", "tflops"):
            value = getattr(node, column)
            if value is not None:
                columns[column][i] = value
        columns["up_kind"][i] = Kind.MEASURED if node.up_mbps is not None else Kind.NONE
        columns["down_kind"][i] = Kind.MEASURED if node.down_mbps is not None else Kind.NONE
        columns["overhead_ms"][i] = node.overhead_ms


def _fill_link(swarm: Swarm, link: _Link) -> None:
    where = f"[[link]] {link.src} → {link.dst}"
    src = slice(None) if link.src == ANY else _require(swarm, link.src, where)
    dst = slice(None) if link.dst == ANY else _require(swarm, link.dst, where)
    columns = swarm.links
    if link.rtt_ms is not None:
        columns["rtt_min_ms"][src, dst] = columns["rtt_p50_ms"][src, dst] = link.rtt_ms
        columns["kind"][src, dst] = Kind.MEASURED
        columns["path"][src, dst] = Path.DIRECT
    if link.jitter_ms is not None:
        columns["jitter_ms"][src, dst] = link.jitter_ms
    if link.loss is not None:
        columns["loss"][src, dst] = link.loss
    if link.mbps is not None:
        columns["mbps"][src, dst] = link.mbps
        columns["mbps_kind"][src, dst] = Kind.MEASURED
    if (link.hop_ms is None) != (link.hop_bytes is None):
        raise SwarmFileError(f"{where}: hop_ms and hop_bytes belong together")
    if link.hop_ms is not None and link.hop_bytes is not None:
        columns["hop_min_ms"][src, dst] = columns["hop_p50_ms"][src, dst] = link.hop_ms
        columns["hop_bytes"][src, dst] = link.hop_bytes
    for column in ("jitter_ms", "loss"):  # a link line that is silent about these means none
        cells = columns[column][src, dst]
        columns[column][src, dst] = np.where(np.isnan(cells), 0.0, cells)


def _require(swarm: Swarm, name: str, where: str) -> int:
    try:
        return swarm.index(name)
    except KeyError:
        raise SwarmFileError(f"{where}: there is no node {name!r}") from None
