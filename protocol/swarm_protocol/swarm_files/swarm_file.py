"""Parse a swarm written by hand in TOML, to plan with machines that are not measured: text in, Swarm out.

The format is in docs/swarm-file.md. Unknown keys are refused, so that a typing error never passes as "not known".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from swarm_protocol.messages.running import Running, tidy
from swarm_protocol.snapshot.lazy_numpy import np
from swarm_protocol.snapshot.nodes.node_figures import congestion_of
from swarm_protocol.snapshot.swarm import Kind, LayerTime, Member, NodeFacts, Path, Swarm, Tcp
from swarm_protocol.text import is_name
from swarm_protocol.toml_errors import toml_error
from swarm_protocol.units import BYTES_PER_GIB

if TYPE_CHECKING:  # the table of devices is read only where a file names one
    from swarm_protocol.devices.machines import Machine
    from swarm_protocol.swarm_files.device_estimates import End

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
    dtype: str = ANY  # of the weights it was measured with; "*": any format


class NodeEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One [[node]] of the file."""

    name: str
    gpu: str = ""  # by name: fills memory, bandwidth, matrix rate and class; figures of the file win
    count: Annotated[int, Meta(ge=1, le=64)] = 1  # of `gpu`, in this machine
    access: str | None = None  # a key of devices.access.ACCESS: fills up, down, round trip and jitter
    city: str | None = None
    vram_gib: NotNegative | None = None
    up_mbps: Positive | None = None
    down_mbps: Positive | None = None
    mem_gbps: Positive | None = None
    tflops: Positive | None = None
    overhead_ms: NotNegative | None = None  # not given: the usual overhead of engines is assumed
    tcp: Literal["cubic", "reno", "bbr"] | None = None  # congestion control; not given: cubic is assumed
    device: str = ""
    region: str = ""
    layer: tuple[_Layer, ...] = ()


class _Link(msgspec.Struct, forbid_unknown_fields=True, rename={"src": "from", "dst": "to"}):
    src: str
    dst: str
    rtt_ms: NotNegative | None = None
    oneway_ms: NotNegative | None = None  # of rtt_ms, from one to the other; the way back takes the rest
    jitter_ms: NotNegative | None = None
    loss: Annotated[float, Meta(ge=0, lt=1)] | None = None
    mbps: Positive | None = None  # measured: the path's rate from one to the other
    hop_ms: NotNegative | None = None  # measured: message of `hop_bytes` until its acknowledgement
    hop_bytes: Annotated[int, Meta(ge=1)] | None = None


class _Client(msgspec.Struct, forbid_unknown_fields=True):
    node: str


class _Running(msgspec.Struct, forbid_unknown_fields=True):
    placement: str  # "a:0-39,b:40-79"
    engine: str = ""
    model: str = ""


Count = Annotated[int, Meta(ge=1, le=10_000_000)]


class ModelTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model of an unknown family, in figures."""

    layers: Annotated[int, Meta(ge=1, le=10_000)]
    layer_bytes: Positive | tuple[Positive, ...]  # weights of one layer, all experts; or of each layer in order
    kv_bytes_per_token: NotNegative  # of one token of context, all layers together
    hidden: Count  # elements that a stage sends to the next
    vocab: Count
    name: Annotated[str, Meta(min_length=1, max_length=200)] = "model"
    weights: str = "fp16"  # the format of layer_bytes
    tied: bool = False  # embedding and LM head are one matrix
    window: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0  # tokens of context that are kept at most; 0: all
    state_bytes: NotNegative = 0.0  # of one sequence, however long, all layers together
    experts: Annotated[int, Meta(ge=0, le=100_000)] = 0  # routed experts of a layer
    experts_active: Annotated[int, Meta(ge=0, le=100_000)] = 0  # for each token
    expert_bytes: NotNegative = 0.0  # of one of them


class NamedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that is known by its name, and optionally the format of its weights."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    weights: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    node: Annotated[tuple[NodeEntry, ...], Meta(min_length=1, max_length=20_000)]
    link: tuple[_Link, ...] = ()
    client: _Client | None = None
    running: _Running | None = None
    model: dict[str, Any] | None = None  # `_model_of`


class _ModelOnly(msgspec.Struct):
    model: dict[str, Any] | None = None


def parse_model(text: str) -> ModelTable | NamedModel | None:
    """Parse the [model] table of a swarm file, whatever else is in it; None: it has none. Raises SwarmFileError."""
    try:
        return _model_of(msgspec.toml.decode(text.encode(), type=_ModelOnly).model, text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise SwarmFileError(toml_error(error, text, _ModelOnly)) from error


def _model_of(table: dict[str, Any] | None, text: str) -> ModelTable | NamedModel | None:
    """Return a named model where nothing but its name and format are given. Raises SwarmFileError."""
    if table is None:
        return None
    kind: type[NamedModel | ModelTable] = NamedModel if table.keys() <= {"name", "weights"} else ModelTable
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise SwarmFileError(toml_error(error, text, kind, "model")) from error


class Written(NamedTuple):
    """A file that has been read and checked."""

    file: _File
    machines: list[Machine | None]  # of each node; None: nothing is filled in

    def members(self) -> tuple[Member, ...]:
        """Return what the file tells of its nodes; links and estimates are not worked out for it."""
        return tuple(map(_member, self.file.node, self.machines))


def parse_swarm(text: str, source: str = "") -> Swarm:
    """Parse the swarm that `text` describes. Raises SwarmFileError."""
    return build(read(text), source)


def read(text: str) -> Written:
    """Read and check the swarm that `text` describes. Raises SwarmFileError. Does without numpy, which `build` needs:
    the first paint of the dashboard does not wait for it."""
    try:
        file = msgspec.toml.decode(text.encode(), type=_File)
        _model_of(file.model, text)  # what is wrong with it is said with the rest of the file
    except (msgspec.DecodeError, UnicodeError) as error:  # ValidationError is one; bad TOML is another
        raise SwarmFileError(toml_error(error, text, _File)) from error
    machines = _check_nodes(file.node)
    names = {node.name for node in file.node}
    for link in file.link:
        _check_link(names, link)
    if file.client is not None:
        _require(names, file.client.node, "[client]")
    if file.running is not None:
        _running(names, file.running)
    return Written(file, machines)


def build(written: Written, source: str = "") -> Swarm:
    """Return the swarm of a file."""
    file = written.file
    client = file.client.node if file.client is not None else None
    swarm = _swarm_of(file.node, written.machines, source, client)
    swarm.client = client
    for link in file.link:
        _fill_link(swarm, link)
    if file.running is not None:
        swarm.running = _running(swarm.names, file.running)
    _assume(swarm, file.node)
    return swarm


def _member(node: NodeEntry, machine: Machine | None) -> Member:
    facts = _facts(node, machine)
    gib = node.vram_gib if node.vram_gib is not None or machine is None else machine.vram_gib
    return Member(
        name=node.name,
        device=facts.device,
        region=facts.region,
        memory_bytes=None if gib is None else gib * BYTES_PER_GIB,
        up_mbps=node.up_mbps,
        down_mbps=node.down_mbps,
    )


def _running(names: Collection[str], table: _Running) -> Running:
    placement = tidy(table.placement)
    if placement is None:
        raise SwarmFileError(f"[running] placement {table.placement[:60]!r} is not written like a:0-39,b:40-79")
    for stage in placement.split(","):
        _require(names, stage.partition(":")[0], "[running] placement")
    return Running(placement, table.engine, table.model, "swarm file")


def swarm_of(nodes: Sequence[NodeEntry], source: str = "", client: str | None = None) -> Swarm:
    """Return the nodes, with hardware and access by their names; no links yet. Raises SwarmFileError.

    A `device` without vram_gib gives the node its memory too, unless it is the client, which serves layers only if its
    memory is given.
    """
    return _swarm_of(nodes, _check_nodes(nodes), source, client)


def _check_nodes(nodes: Sequence[NodeEntry]) -> list[Machine | None]:
    """Return the machine of each node, None: nothing to fill. Raises SwarmFileError."""
    names = [node.name for node in nodes]
    for name in names:
        if not is_name(name):
            raise SwarmFileError(f"node name {name!r} is not 1 to 32 of A-Z a-z 0-9 . _ -")
    for name in set(names) if len(set(names)) != len(names) else ():
        if names.count(name) > 1:
            raise SwarmFileError(f"node {name!r} appears twice; names must differ")
    machines = [_machine(node) for node in nodes]
    if any(node.access is not None or node.city is not None for node in nodes):
        _ends(nodes)
    return machines


def _swarm_of(nodes: Sequence[NodeEntry], machines: Sequence[Machine | None], source: str, client: str | None) -> Swarm:
    facts = tuple(_facts(node, machine) for node, machine in zip(nodes, machines, strict=True))
    swarm = Swarm.empty(facts, source=source)
    _fill_nodes(swarm, nodes)
    for i, (node, machine) in enumerate(zip(nodes, machines, strict=True)):
        if machine is not None:
            from swarm_protocol.swarm_files.device_estimates import fill_hardware

            fill_hardware(swarm, i, machine, memory=bool(node.gpu) or node.name != client)
    if any(node.access is not None or node.city is not None for node in nodes):
        from swarm_protocol.swarm_files.device_estimates import fill_lines

        fill_lines(swarm, _ends(nodes))
    return swarm


def _assume(swarm: Swarm, nodes: Sequence[NodeEntry]) -> None:
    """Note what was taken from access kinds and cities, once links have replaced what they know better."""
    if any(node.access is not None or node.city is not None for node in nodes):
        from swarm_protocol.swarm_files.device_estimates import assumptions, prefer_measured

        prefer_measured(swarm)
        swarm.assumed = assumptions(swarm, _ends(nodes))


def _machine(node: NodeEntry) -> Machine | None:
    """Return the machine of `gpu`, else of `device` where no layer time is given. None: nothing to fill."""
    if not node.gpu:
        if node.count != 1:
            raise SwarmFileError(f"node {node.name!r}: count goes with gpu")
        if not node.device or node.layer:
            return None
    from swarm_protocol.devices.machines import UnknownDevice, known_machine, machine_of

    if not node.gpu:
        return known_machine(node.device)
    try:
        machine = machine_of(node.gpu, node.count)
    except UnknownDevice as error:
        if node.vram_gib is not None and (node.mem_gbps is not None or node.layer):
            return None  # an unknown name with all figures given
        raise SwarmFileError(f"node {node.name!r}: {error}") from error
    if machine.vram_gib is None and node.vram_gib is None:
        raise SwarmFileError(
            f"node {node.name!r}: {machine.name} uses the memory of its machine; add its size to the name as in "
            f"'{node.gpu} 64GB', or give vram_gib"
        )
    return machine


def _ends(nodes: Sequence[NodeEntry]) -> list[End]:
    from swarm_protocol.swarm_files.device_estimates import end_of

    found = []
    for node in nodes:
        try:
            found.append(end_of(node.access, node.city))
        except ValueError as error:
            raise SwarmFileError(f"node {node.name!r}: {error}") from error
    return found


def _facts(node: NodeEntry, machine: Machine | None) -> NodeFacts:
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
    return NodeFacts(
        node_id=node.name,
        name=node.name,
        device=node.device or (machine.name if machine is not None else node.gpu),
        region=node.region or node.city or "",
        layers=layers,
        device_class=machine.device_class if machine is not None else _class_of(node),
        sheet=machine.name if machine is not None and node.mem_gbps is None else "",
    )


def _class_of(node: NodeEntry) -> str:
    """Return the class of a named device whose figures are given."""
    if not node.device:
        return ""
    from swarm_protocol.devices.machines import known_machine

    machine = known_machine(node.device)
    return machine.device_class if machine is not None else ""


def _fill_nodes(swarm: Swarm, nodes: Sequence[NodeEntry]) -> None:
    columns = swarm.nodes
    for i, node in enumerate(nodes):
        if node.vram_gib is not None:
            columns["vram_bytes"][i] = columns["vram_free_bytes"][i] = node.vram_gib * BYTES_PER_GIB
        for column in ("up_mbps", "down_mbps", "mem_gbps", "tflops"):
            value = getattr(node, column)
            if value is not None:
                columns[column][i] = value
        columns["mem_kind"][i] = Kind.MEASURED if node.mem_gbps is not None else Kind.NONE
        columns["up_kind"][i] = Kind.MEASURED if node.up_mbps is not None else Kind.NONE
        columns["down_kind"][i] = Kind.MEASURED if node.down_mbps is not None else Kind.NONE
        columns["overhead_ms"][i] = np.nan if node.overhead_ms is None else node.overhead_ms
        columns["congestion"][i] = congestion_of(node.tcp)
        if node.tcp is not None:
            columns["tcp"][i] = Tcp.PACES if node.tcp == "bbr" else Tcp.SHRINKS


def _check_link(names: Collection[str], link: _Link) -> None:
    where = f"[[link]] {link.src} → {link.dst}"
    for end in (link.src, link.dst):
        if end != ANY:
            _require(names, end, where)
    if link.oneway_ms is not None and (link.rtt_ms is None or link.oneway_ms > link.rtt_ms):
        raise SwarmFileError(f"{where}: oneway_ms is a part of rtt_ms; give rtt_ms too, at least as large")
    if (link.hop_ms is None) != (link.hop_bytes is None):
        raise SwarmFileError(f"{where}: hop_ms needs hop_bytes, and the other way round")


def _fill_link(swarm: Swarm, link: _Link) -> None:
    src = slice(None) if link.src == ANY else swarm.index(link.src)
    dst = slice(None) if link.dst == ANY else swarm.index(link.dst)
    columns = swarm.links
    if link.rtt_ms is not None:
        guessed = columns["kind"][src, dst] == Kind.ESTIMATE
        for column in ("jitter_ms", "loss"):  # of the estimate, which is replaced
            cells = columns[column][src, dst]
            columns[column][src, dst] = np.where(guessed, np.nan, cells)
        columns["rtt_min_ms"][src, dst] = columns["rtt_p50_ms"][src, dst] = link.rtt_ms
        columns["kind"][src, dst] = Kind.MEASURED
        columns["path"][src, dst] = Path.DIRECT
    if link.oneway_ms is not None and link.rtt_ms is not None:
        columns["oneway_ms"][src, dst] = link.oneway_ms
        columns["oneway_ms"][dst, src] = link.rtt_ms - link.oneway_ms
    if link.jitter_ms is not None:
        columns["jitter_ms"][src, dst] = link.jitter_ms
    if link.loss is not None:
        columns["loss"][src, dst] = link.loss
    if link.mbps is not None:
        columns["mbps"][src, dst] = link.mbps
        columns["mbps_kind"][src, dst] = Kind.MEASURED
    if link.hop_ms is not None and link.hop_bytes is not None:
        columns["hop_min_ms"][src, dst] = columns["hop_p50_ms"][src, dst] = link.hop_ms
        columns["hop_bytes"][src, dst] = link.hop_bytes
    for column in ("jitter_ms", "loss"):  # a link without these has none
        cells = columns[column][src, dst]
        columns[column][src, dst] = np.where(np.isnan(cells), 0.0, cells)


def _require(names: Collection[str], name: str, where: str) -> None:
    if name not in names:
        raise SwarmFileError(f"{where}: there is no node {name!r}")
