"""Which Swarm do these samples make? The collector (live) and a recorded database (replay) both ask here.

Applying one sample is O(1) (an uplink sample: one row and one column); a snapshot copies the columns touched since
the one before and shares the others, read-only. No clock, no I/O: `now_ns` comes with the question.

Nothing is smoothed. A link shows its newest window, and `sent` says of how many packets: quantiles of several windows
do not combine, so the windows before it are for the history. A figure is replaced only by a later one, so batches
that come late or twice change nothing; but one dated after its node was last heard (a clock that ran ahead) yields to
any. A window that ran beside one of our own transfers shows that transfer's queue, not the path: it replaces an idle
window only where that is old, or where no queue explains the difference (`_beyond_queue`).

A hop's figures keep the round trip that the path had meanwhile (`hop_rtt_ms`), so that whoever mixes it with a later
round trip can tell by how much the path has changed since.

A transfer is limited by the sender, by the receiver and by what lies between. So a node's uplink is the best of the
latest transfers to each of its peers, and its downlink the best of the latest from each.

`event` is for what the collector says itself, `sample` for what probes say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarm_protocol.messages.probe_messages import HostFacts
from swarm_protocol.messages.running import KIND, Running, from_detail, newer, tidy
from swarm_protocol.messages.samples import (
    ComputeSample,
    EventSample,
    HopSample,
    HostSample,
    LinkSample,
    RooflineSample,
    RunSample,
    Sample,
    UplinkSample,
)
from swarm_protocol.snapshot.event_log import EventLog
from swarm_protocol.snapshot.link_table import LinkTable
from swarm_protocol.snapshot.node_figures import (
    card_shares,
    class_of,
    host_figures,
    memory_bytes,
    named,
    over_cards,
    sheet_of,
    shown_device,
)
from swarm_protocol.snapshot.swarm import (
    NODE_COLUMNS,
    Floats,
    Ints,
    Kind,
    LayerTime,
    NodeFacts,
    Path,
    State,
    Swarm,
    Transport,
    Why,
)
from swarm_protocol.units import NS_PER_S

STALE_AFTER_NS: Final = 12 * NS_PER_S  # two heartbeats missed, and a slow line
LOST_AFTER_NS: Final = 20 * NS_PER_S  # as the collector calls it
NUMBERS_OLD_NS: Final = 150 * NS_PER_S  # an idle swarm still sends host figures every minute: two of them missed
CLOCK_SLACK_NS: Final = 5 * NS_PER_S  # clocks kept by NTP differ by far less
LOADED_HOLD_NS: Final = 60 * NS_PER_S  # so long an idle window is a better answer than one beside our own transfer
RECENT_RATE_NS: Final = 15 * 60 * NS_PER_S  # the collector leases each node's transfers more often than this
STEP_SHARE: Final = 0.1  # of a round trip: a difference that is none of its own noise
PLATEAU: Final = 0.25  # of a step: what a window that is all of one level spreads over
HOP_SLACK: Final = 1.05
MAX_RUNS: Final = 100  # of watched engines: what a chart of them shows
MAX_LAYERS: Final = 512  # kept of one node: bounds what a member that invents models can make others hold
_FIRST_CAPACITY: Final = 8
_PATHS: Final = {path.name.lower(): path for path in Path}
_WHY: Final = {why.name.lower().replace("_", "-"): why for why in Why}


@dataclass(slots=True)
class _Gpus:
    """The GPUs of one host reading; one sample each, all with the same time."""

    at_ns: int
    samples: list[HostSample]


@dataclass(slots=True)
class _Node:
    node_id: str
    name: str
    facts: HostFacts | None
    host: str
    fresh_ns: int  # collector's clock when a sample last told something new
    layers: dict[tuple[str, str, str, int, int], LayerTime] = field(default_factory=dict)
    by_card: dict[tuple[str, str, str, int, int], dict[str, LayerTime]] = field(default_factory=dict)  # several cards
    rooflines: dict[tuple[str, str], RooflineSample] = field(default_factory=dict)
    reading: _Gpus | None = None  # of which not all GPUs have come yet
    device: str = ""  # as samples name it, where facts are missing
    note: str = ""
    note_at_ns: int = 0
    shown: NodeFacts | None = None  # None: has changed since the last snapshot


class SwarmBuilder:
    """Grows a Swarm sample by sample. Node rows keep the order in which nodes came."""

    def __init__(self, *, stale_after_ns: int = STALE_AFTER_NS, lost_after_ns: int = LOST_AFTER_NS) -> None:
        self._stale_after_ns = stale_after_ns
        self._lost_after_ns = lost_after_ns
        self._nodes: list[_Node] = []
        self._index: dict[str, int] = {}
        self._events = EventLog(self._name_of)
        self._capacity = _FIRST_CAPACITY
        empty = Swarm.empty(tuple(NodeFacts("", "") for _ in range(self._capacity)))
        self._node_columns = empty.nodes
        self._readings: dict[int, list[HostSample]] = {}  # the newest of each node that is not in its columns yet
        self._links = LinkTable()
        self._runs: tuple[RunSample, ...] = ()
        self._running: Running | None = None

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._index

    def __len__(self) -> int:
        return len(self._nodes)

    def expect_every(self, beat_ns: int) -> None:
        """Some nodes are asked to be heard no more often than this: two beats missed, and a slow line, is silence."""
        self._stale_after_ns = max(self._stale_after_ns, 2 * beat_ns + STALE_AFTER_NS // 6)
        self._lost_after_ns = max(self._lost_after_ns, 4 * beat_ns)

    # ------------------------------------------------------------ members

    def node(
        self,
        node_id: str,
        name: str,
        facts: HostFacts | None = None,
        host: str = "",
        seen_ns: int = 0,
        state: State = State.OK,
    ) -> None:
        """Adds a node, or tells anew what it is; its figures stay. `seen_ns` 0: not heard of (yet)."""
        i = self._index.get(node_id)
        if i is None:
            i = len(self._nodes)
            if i == self._capacity:
                self._grow()
            self._index[node_id] = i
            self._nodes.append(_Node(node_id, name, facts, host, fresh_ns=seen_ns))
        node = self._nodes[i]
        node.name, node.host, node.facts, node.shown = name, host, facts or node.facts, None
        self._events.renamed()
        columns = self._node_columns
        columns["state"][i] = state
        columns["seen_ns"][i] = max(seen_ns, int(columns["seen_ns"][i]))
        node.fresh_ns = max(node.fresh_ns, seen_ns)
        if facts is not None and np.isnan(columns["vram_bytes"][i]):
            columns["vram_bytes"][i] = memory_bytes(facts)

    def seen(self, node_id: str, at_ns: int, spooled: int = 0) -> None:
        """Something came from this node; it is back if it had been lost or had left."""
        i = self._index[node_id]
        columns = self._node_columns
        columns["seen_ns"][i] = max(at_ns, int(columns["seen_ns"][i]))
        columns["spooled"][i] = spooled
        columns["state"][i] = State.OK
        node = self._nodes[i]
        node.fresh_ns = node.fresh_ns or at_ns  # one that has just come is given time for its first numbers

    def state(self, node_id: str, state: State, at_ns: int) -> None:
        """What the collector decided. OK and STALE still age in `snapshot`; the others stay until `seen`."""
        i = self._index[node_id]
        if at_ns >= self._node_columns["seen_ns"][i] or state is State.OK:
            self._node_columns["state"][i] = state

    def forget(self, node_id: str) -> None:
        """Removes a node with all its links; O(n²), for members that are gone for good."""
        self._show_readings()
        gone = self._index.pop(node_id)
        del self._nodes[gone]
        for other, i in self._index.items():
            if i > gone:
                self._index[other] = i - 1
        keep = [i for i in range(self._capacity) if i != gone]
        empty = Swarm.empty((NodeFacts("", ""),))
        for name, column in self._node_columns.items():
            self._node_columns[name] = np.concatenate((column[keep], empty.nodes[name]))
        self._links.forget(gone)

    # ------------------------------------------------------------ what is told

    def event(self, at_ns: int, node_id: str | None, kind: str, detail: str) -> None:
        """`node_id` None: of the swarm as a whole. The newest are kept, in the order of their times."""
        self._events.add(at_ns, node_id, kind, detail)
        if kind == KIND and node_id is None and (told := from_detail(at_ns, detail)) is not None:
            self.running(told)

    def running(self, told: Running) -> None:
        """What runs, as somebody told it; the newest word counts."""
        self._running = newer(self._running, told)

    def run(self, run: RunSample) -> None:
        """What a watched engine took. The newest MAX_RUNS are kept, in the order of their times."""
        self._runs = tuple(sorted((*self._runs, run), key=lambda known: known.at_ns)[-MAX_RUNS:])
        if not run.baseline and (placement := tidy(run.placement)) is not None:
            same = self._running is not None and self._running.placement == placement
            engine = self._running.engine if same and self._running is not None else ""
            self.running(Running(placement, engine, source="watch", at_ns=run.at_ns))

    def sample(self, node_id: str, sample: Sample) -> bool:
        """Takes one sample of node `node_id` (KeyError: unknown). False: it told nothing new, or of an unknown peer."""
        src = self._index[node_id]
        changed = self._apply(src, sample)
        if changed:
            node = self._nodes[src]
            node.fresh_ns = max(node.fresh_ns, int(self._node_columns["seen_ns"][src]))
        return changed

    def _apply(self, src: int, sample: Sample) -> bool:
        of_pair = _OF_PAIRS.get(type(sample))
        if of_pair is not None:
            dst = self._index.get(sample.peer)  # type: ignore[union-attr]
            return dst is not None and dst != src and of_pair(self, src, dst, sample)
        if isinstance(sample, HostSample):
            return self._host(src, sample)
        if isinstance(sample, ComputeSample):
            return self._compute(src, sample)
        if isinstance(sample, RooflineSample):
            return self._roofline(src, sample)
        if isinstance(sample, EventSample):
            self._told(src, sample)
        return True

    def _link(self, src: int, dst: int, sample: LinkSample) -> bool:
        known_ns = self._links.at_ns("path", src, dst)
        if not self._later(src, known_ns, sample.at_ns, loaded=sample.loaded) and not (
            sample.loaded and sample.at_ns > known_ns and self._beyond_queue(src, dst, sample)
        ):
            return False
        if known_ns < self._links.at_ns("hop", src, dst) <= sample.at_ns:
            self._date_hop(src, dst, sample)
        # over a detour via the collector nothing is sent; what went where there is no path is no loss of one
        nothing = sample.sent == 0 or (sample.path == "none" and sample.why is not None)
        estimated = sample.path in ("estimated", "relayed")
        cells = (
            Kind.ESTIMATE if estimated else Kind.NONE if nothing else Kind.MEASURED,
            _PATHS[sample.path],
            Why.UNKNOWN if sample.why is None else _WHY[sample.why],
            sample.at_ns,
            sample.sent,
            sample.rtt_min_ms,
            sample.rtt_p50_ms,
            sample.rtt_p95_ms,
            sample.rtt_p99_ms,
            sample.pdv_ms,
            sample.jitter_rfc3550_ms,
            None if nothing else min(1.0, sample.lost / sample.sent),
        )
        self._links.put("path", src, dst, sample.at_ns, cells)
        return True

    def _beyond_queue(self, src: int, dst: int, sample: LinkSample) -> bool:
        """A queue only adds delay, and delay of every length: a window that is lower than what is known, or all of one
        other level, tells of the path whatever was sent beside it."""
        known_ms = self._links.cells("path", src, dst).get("rtt_p50_ms", np.nan)
        if sample.rtt_p50_ms is None or sample.rtt_min_ms is None or sample.rtt_p95_ms is None or np.isnan(known_ms):
            return False
        step_ms = sample.rtt_p50_ms - known_ms
        if abs(step_ms) < STEP_SHARE * known_ms:
            return False
        return step_ms < 0 or sample.rtt_p95_ms - sample.rtt_min_ms <= PLATEAU * step_ms

    def _date_hop(self, src: int, dst: int, sample: LinkSample) -> None:
        """The hop was measured within this window: if the path has changed in it, which round trip was the hop's?"""
        cells = self._links.cells("hop", src, dst)
        before_ms, after_ms, least_ms = cells["hop_rtt_ms"], sample.rtt_p50_ms, sample.rtt_min_ms
        if after_ms is None or least_ms is None:
            return
        if np.isnan(before_ms) or abs(least_ms - before_ms) > abs(least_ms - after_ms):
            cells["hop_rtt_ms"] = after_ms  # the whole window was so
        else:  # no hop is faster than the round trip it ends with
            fits = [ms for ms in (before_ms, after_ms) if ms <= HOP_SLACK * cells["hop_min_ms"]]
            cells["hop_rtt_ms"] = max(fits, default=before_ms)
        self._links.put("hop", src, dst, int(cells["hop_at_ns"]), tuple(cells.values()))

    def _hop(self, src: int, dst: int, sample: HopSample) -> bool:
        """The live figure is a decode step's; prefill chunks are for the history."""
        if sample.phase != "decode":
            return False
        if not self._later(src, self._links.at_ns("hop", src, dst), sample.at_ns, loaded=sample.loaded):
            return False
        cells = (
            sample.size_bytes, sample.min_ms, sample.p50_ms, sample.p95_ms, sample.p99_ms, sample.first_ms,
            sample.at_ns, self._links.cells("path", src, dst).get("rtt_p50_ms"), Transport[sample.transport.upper()],
        )  # fmt: skip
        self._links.put("hop", src, dst, sample.at_ns, cells)
        return True

    def _uplink(self, src: int, dst: int, sample: UplinkSample) -> bool:
        if not self._later(src, self._links.at_ns("rate", src, dst), sample.at_ns):
            return False
        kind = Kind.BOUND if sample.bound else Kind.MEASURED
        transport = Transport[sample.transport.upper()]
        cells = (sample.mbps, kind, sample.rtt_loaded_ms, sample.at_ns, transport)
        self._links.put("rate", src, dst, sample.at_ns, cells)
        self._rate("up", src, self._links.rates(src, out=True))
        self._rate("down", dst, self._links.rates(dst, out=False))
        return True

    def _rate(self, way: str, i: int, transfers: npt.NDArray[Any]) -> None:
        """The best of the latest transfers; a measured one before a bound of the same rate."""
        recent = transfers[transfers["mbps_at_ns"] >= transfers["mbps_at_ns"].max() - RECENT_RATE_NS]
        best = recent[np.lexsort((recent["mbps_kind"] == Kind.MEASURED, recent["mbps"]))[-1]]
        self._node_columns[f"{way}_mbps"][i] = best["mbps"]
        self._node_columns[f"{way}_kind"][i] = best["mbps_kind"]
        self._node_columns[f"{way}_at_ns"][i] = best["mbps_at_ns"]

    def _host(self, i: int, sample: HostSample) -> bool:
        """Several GPUs are several samples of one time; they are shown when all have come, or the next reading has."""
        node = self._nodes[i]
        if not self._later(i, int(self._node_columns["host_at_ns"][i]), sample.at_ns):
            return False
        expected = len(node.facts.gpus) if node.facts is not None else 1
        if node.reading is not None and node.reading.at_ns == sample.at_ns:
            node.reading.samples.append(sample)
        else:
            if node.reading is not None and node.reading.at_ns < sample.at_ns:
                self._read(i, node.reading.samples)
            node.reading = _Gpus(sample.at_ns, [sample])
        if sample.gpu is None or len(node.reading.samples) >= expected:
            self._read(i, node.reading.samples)
            node.reading = None
        return True

    def _read(self, i: int, samples: list[HostSample]) -> None:
        """The figures are worked out when somebody looks: of ten thousand nodes a thousand readings come a second."""
        self._readings[i] = samples
        self._node_columns["host_at_ns"][i] = samples[-1].at_ns

    def _show_readings(self) -> None:
        for i, samples in self._readings.items():
            node = self._nodes[i]
            for name, value in host_figures(samples, node.facts).items():
                self._node_columns[name][i] = np.nan if value is None else value
            self._device(node, named([sample.gpu for sample in samples if sample.gpu is not None]))
        self._readings.clear()

    def _compute(self, i: int, sample: ComputeSample) -> bool:
        node = self._nodes[i]
        key = (sample.model, sample.dtype, sample.phase, sample.batch, sample.context)
        cards = node.by_card.setdefault(key, {}) if node.facts is not None and len(node.facts.gpus) > 1 else {}
        known = node.layers.pop(key, None)  # put back at the end: what is dropped is what was measured longest ago
        before = cards.get(sample.device, known) if not cards else cards.get(sample.device)
        if before is not None and not self._later(i, before.at_ns, sample.at_ns):
            if known is not None:
                node.layers[key] = known
            return False
        cards[sample.device] = node.layers[key] = LayerTime(
            model=sample.model,
            phase=sample.phase,
            batch=sample.batch,
            context=sample.context,
            ms=sample.ms_per_layer,
            ms_p95=sample.ms_p95,
            dtype=sample.dtype,
            n=sample.n,
            at_ns=sample.at_ns,
            verified=sample.verified,
            marks=sample.marks,
        )
        if shares := card_shares(node.facts, cards):
            node.layers[key] = over_cards([(share, cards[device]) for device, share in shares.items()])
        if len(node.layers) > MAX_LAYERS:
            oldest = next(iter(node.layers))
            del node.layers[oldest]
            node.by_card.pop(oldest, None)
        if sample.phase == "visit":  # of the machine more than of the model: the newest one is as good as any
            self._node_columns["overhead_ms"][i] = sample.ms_per_layer
        self._node_columns["compute_at_ns"][i] = max(sample.at_ns, int(self._node_columns["compute_at_ns"][i]))
        self._device(node, sample.device)
        if sample.at_ns >= node.note_at_ns:
            node.note = ""
        node.shown = None
        return True

    def _roofline(self, i: int, sample: RooflineSample) -> bool:
        """Shown: the best number format, which is what data sheets state and layers run on; of several cards of the
        machine the rate of the mean of their times, by memory, else the best device."""
        node = self._nodes[i]
        key = (sample.device, sample.dtype)
        known = node.rooflines.get(key)
        if known is not None and not self._later(i, known.at_ns, sample.at_ns):
            return False
        if known is None and len(node.rooflines) >= MAX_LAYERS:
            return False
        node.rooflines[key] = sample
        if known is None:
            node.shown = None  # its data sheet is no longer needed
        self._node_columns["mem_kind"][i] = Kind.MEASURED
        shares = card_shares(node.facts, (device for device, _ in node.rooflines))
        for column in ("mem_gbps", "tflops"):
            best: dict[str, float] = {}
            for (device, _), each in node.rooflines.items():
                best[device] = max(getattr(each, column), best.get(device, 0.0))
            # cards work one after another: the rate of the mean of their times
            rate = 1 / sum(share / best[card] for card, share in shares.items()) if shares else max(best.values())
            self._node_columns[column][i] = rate
        return True

    def _told(self, i: int, sample: EventSample) -> None:
        node = self._nodes[i]
        self.event(sample.at_ns, node.node_id, sample.kind, sample.detail)
        if sample.kind in ("torch_missing", "compute_failed") and sample.at_ns >= max(
            node.note_at_ns, int(self._node_columns["compute_at_ns"][i])
        ):
            node.note, node.note_at_ns, node.shown = sample.detail, sample.at_ns, None

    # ------------------------------------------------------------ the answer

    def snapshot(self, now_ns: int, source: str = "") -> Swarm:
        """The Swarm as of `now_ns`. Link columns are read-only: snapshots share those that did not change."""
        self._show_readings()
        n = len(self._nodes)
        nodes = {name: column[:n].copy() for name, column in self._node_columns.items()}
        nodes["state"] = self._aged(nodes["state"], nodes["seen_ns"], now_ns)
        facts = tuple(self._facts(node) for node in self._nodes)
        for i, known in enumerate(facts):
            if known.sheet:
                self._from_sheet(nodes, i)
        return Swarm(
            at_ns=now_ns,
            facts=facts,
            nodes=nodes,
            links=self._links.columns(n),
            source=source,
            events=self._events.shown(),
            runs=self._runs,
            running=self._running,
        )

    def rtt_from(self, node_id: str) -> dict[str, float]:
        """Node → lowest RTT in ms, of the links of `node_id` that were measured."""
        i = self._index.get(node_id)
        measured = () if i is None else self._links.rtt_min_ms(i)
        return {self._nodes[dst].node_id: rtt_ms for dst, rtt_ms in measured}

    def least_rtts(self) -> tuple[Ints, Ints, Floats]:
        """(src, dst, lowest RTT in ms) of every measured link, as rows of `snapshot`."""
        return self._links.least_rtts()

    def place(self, ids: tuple[str, ...], columns: dict[str, Floats]) -> None:
        """Coordinates of these nodes; of one that is gone meanwhile they are left out."""
        rows = [(self._index[node_id], k) for k, node_id in enumerate(ids) if node_id in self._index]
        if rows:
            at, of = np.array(rows, np.int64).T
            for name, column in columns.items():
                self._node_columns[name][at] = column[of]

    def states(self, now_ns: int) -> list[int]:
        """The nodes' states alone, in the order of their rows."""
        n, columns = len(self), self._node_columns
        states: list[int] = self._aged(columns["state"][:n].copy(), columns["seen_ns"][:n], now_ns).tolist()
        return states

    def _aged(self, state: npt.NDArray[Any], seen_ns: npt.NDArray[Any], now_ns: int) -> npt.NDArray[Any]:
        """OK and STALE by what was heard when. Written so that no difference overflows, whatever clocks say."""
        living = (state == State.OK) | (state == State.STALE)
        fresh_ns = np.array([node.fresh_ns for node in self._nodes], np.int64)
        silent = seen_ns <= now_ns - self._stale_after_ns
        old = fresh_ns <= now_ns - max(NUMBERS_OLD_NS, self._stale_after_ns)
        aged = state.copy()
        aged[living & (silent | old)] = State.STALE
        aged[living & (seen_ns <= now_ns - self._lost_after_ns)] = State.LOST
        aged[living & (seen_ns == 0)] = State.UNKNOWN
        return aged

    def _facts(self, node: _Node) -> NodeFacts:
        if node.shown is None:
            facts = node.facts
            note = node.note
            machine = sheet_of(facts) if not node.layers and not node.rooflines else None
            if not note and not node.layers and facts is not None and facts.torch is None:
                note = "torch not installed: pip install 'swarmtop[torch]'"
            node.shown = NodeFacts(
                node_id=node.node_id,
                name=node.name,
                device=shown_device(facts, node.device),
                system=facts.system if facts is not None else "",
                host=node.host,
                note=note,
                layers=tuple(node.layers.values()),
                device_class=class_of(facts),
                sheet=machine.name if machine is not None else "",
            )
        return node.shown

    def _from_sheet(self, nodes: dict[str, npt.NDArray[Any]], i: int) -> None:
        """Bandwidth and matrix rate of a node whose layers nobody has timed yet."""
        machine = sheet_of(self._nodes[i].facts)
        if machine is not None:
            nodes["mem_gbps"][i], nodes["mem_kind"][i] = machine.mem_gbps, Kind.ESTIMATE
            nodes["tflops"][i] = np.nan if machine.tflops is None else machine.tflops

    def _name_of(self, node_id: str) -> str | None:
        i = self._index.get(node_id)
        return None if i is None else self._nodes[i].name

    # ------------------------------------------------------------ small parts

    def _later(self, i: int, known_ns: int, at_ns: int, *, loaded: bool = False) -> bool:
        """Does a figure of `at_ns` replace the one of `known_ns`?"""
        if known_ns == 0:
            return True
        seen_ns = int(self._node_columns["seen_ns"][i])
        if known_ns > seen_ns + CLOCK_SLACK_NS and seen_ns > 0 and at_ns != known_ns:
            return True
        return at_ns > known_ns + (LOADED_HOLD_NS if loaded else 0)

    def _device(self, node: _Node, device: str) -> None:
        if device and device != node.device:
            node.device, node.shown = device, None

    def _grow(self) -> None:
        n, self._capacity = self._capacity, 2 * self._capacity
        for name, dtype in NODE_COLUMNS.items():
            column = _unknown(dtype, self._capacity)
            column[:n] = self._node_columns[name]
            self._node_columns[name] = column


def _unknown(dtype: type[np.generic], n: int) -> npt.NDArray[Any]:
    return np.full((n,), np.nan, dtype) if dtype is np.float64 else np.zeros((n,), dtype)


_OF_PAIRS: Final[dict[type, Callable[[SwarmBuilder, int, int, Any], bool]]] = {
    LinkSample: SwarmBuilder._link,
    HopSample: SwarmBuilder._hop,
    UplinkSample: SwarmBuilder._uplink,
}
