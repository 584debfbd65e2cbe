"""Build the Swarm from samples, for the collector (live) and for a recorded database (replay).

Applying one sample is O(1) (an uplink sample: one row and one column); a snapshot copies the columns changed since the
previous one and shares the others, read-only. No clock, no I/O: `now_ns` is passed in.

Nothing is smoothed. A link shows its newest window, and `sent` says of how many packets: quantiles of several windows
do not combine, so earlier ones belong to the history; losses do (`pooled_loss`). A figure is replaced only by a later
one, so batches that come late or twice change nothing; but one dated after its node was last heard (a clock that ran
ahead) is replaced by any other. Which window and hop of a link count is decided in `link_figures`.

A transfer is limited by the sender, by the receiver and by the path. So a node's uplink is the best of the latest
transfers to each of its peers, and its downlink the best of the latest from each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.probe_messages import HostFacts
from swarm_protocol.messages.running import KIND, Running, from_detail, tidy
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
from swarm_protocol.snapshot.columns import NODE_COLUMNS, blank
from swarm_protocol.snapshot.event_log import EventLog
from swarm_protocol.snapshot.links.first_windows import FirstWindows
from swarm_protocol.snapshot.links.link_figures import LinkFigures, is_later
from swarm_protocol.snapshot.links.link_table import DENSE_NODES, LinkTable
from swarm_protocol.snapshot.links.loss_history import LossWindow
from swarm_protocol.snapshot.links.stamp_history import StampedWindow
from swarm_protocol.snapshot.links.window_columns import Windows, windows_of
from swarm_protocol.snapshot.nodes.host_readings import HostReadings
from swarm_protocol.snapshot.nodes.live_node import LiveNode
from swarm_protocol.snapshot.nodes.node_figures import memory_bytes, sheet_of
from swarm_protocol.snapshot.nodes.node_state import LOST_AFTER_NS, STALE_AFTER_NS, aged
from swarm_protocol.snapshot.running_placement import RunningPlacement
from swarm_protocol.snapshot.swarm import Floats, Ints, Kind, NodeFacts, State, Swarm, Way

MAX_RUNS: Final = 100  # of watched engines: as many as a chart shows
_FIRST_CAPACITY: Final = 8
_MAX_WAITING: Final = 128  # batches of windows since the last look: some 2 MB


class SwarmBuilder:
    """Builds a Swarm sample by sample. Node rows keep the order in which nodes came."""

    def __init__(self, *, stale_after_ns: int = STALE_AFTER_NS, lost_after_ns: int = LOST_AFTER_NS) -> None:
        self._stale_after_ns = stale_after_ns
        self._lost_after_ns = lost_after_ns
        self._nodes: list[LiveNode] = []
        self._index: dict[str, int] = {}
        self._events = EventLog(partial(_name_of, self._index, self._nodes))
        self._capacity = _FIRST_CAPACITY
        self._node_columns = Swarm.empty((NodeFacts("", ""),) * self._capacity).nodes
        self._readings = HostReadings(self._nodes, self._node_columns)
        self._links = LinkTable()
        self._link_figures = LinkFigures(self._links, partial(_seen_ns, self._node_columns))
        self._waiting: list[Windows] = []
        self._runs: tuple[RunSample, ...] = ()
        self._running = RunningPlacement(self._events)

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._index

    def __len__(self) -> int:
        return len(self._nodes)

    def expect_every(self, beat_ns: int) -> None:
        """Set the interval of some nodes' messages: two missed heartbeats, and a slow link, count as silence."""
        self._stale_after_ns = max(self._stale_after_ns, 2 * beat_ns + STALE_AFTER_NS // 6)
        self._lost_after_ns = max(self._lost_after_ns, 4 * beat_ns)

    # ------------------------------------------------------------ members

    def node(
        self, node_id: str, name: str, facts: HostFacts | None = None, host: str = "", seen_ns: int = 0,
        state: State = State.OK,
    ) -> None:  # fmt: skip
        """Add a node or update its description; its figures stay. `seen_ns` 0: not heard from yet."""
        i = self._index.get(node_id)
        if i is None:
            i = len(self._nodes)
            if i == self._capacity:
                self._grow()
            self._index[node_id] = i
            self._nodes.append(LiveNode(node_id, name, facts, host, fresh_ns=seen_ns))
            self._link_figures.estimate_if(len(self._nodes) <= DENSE_NODES)
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
        """Note a message of this node; it is back if it had been lost or had left."""
        i = self._index[node_id]
        columns = self._node_columns
        columns["seen_ns"][i] = max(at_ns, int(columns["seen_ns"][i]))
        columns["spooled"][i] = spooled
        columns["state"][i] = State.OK
        self._nodes[i].fresh_ns = self._nodes[i].fresh_ns or at_ns  # a new node gets time for its first numbers

    def state(self, node_id: str, state: State, at_ns: int) -> None:
        """Set the state that the collector decided. OK and STALE still age in `snapshot`; the others stay until
        `seen`."""
        i = self._index[node_id]
        if at_ns >= self._node_columns["seen_ns"][i] or state is State.OK:
            self._node_columns["state"][i] = state

    def forget(self, node_id: str) -> None:
        """Remove a node with all its links; O(n²), for members that are gone for good."""
        self._settle()
        self._readings.show()
        gone = self._index.pop(node_id)
        del self._nodes[gone]
        for other, i in self._index.items():
            if i > gone:
                self._index[other] = i - 1
        keep = [i for i in range(self._capacity) if i != gone]
        empty = Swarm.empty((NodeFacts("", ""),))
        for name, column in self._node_columns.items():
            self._node_columns[name] = np.concatenate((column[keep], empty.nodes[name]))
        self._link_figures.forget(gone)
        self._link_figures.estimate_if(len(self._nodes) <= DENSE_NODES)

    # ------------------------------------------------------------ events, runs and samples

    def event(self, at_ns: int, node_id: str | None, kind: str, detail: str) -> None:
        """Add an event; `node_id` None: of the swarm as a whole. The newest are kept, ordered by time."""
        self._events.add(at_ns, node_id, kind, detail)
        if kind == KIND and node_id is None and (report := from_detail(at_ns, detail)) is not None:
            self.running(report)

    def running(self, report: Running) -> None:
        """Set what the swarm runs; the newest report counts."""
        self._running.report(report, self._names())

    def _names(self) -> Iterator[tuple[str, str]]:
        return ((node.name, node.node_id) for node in self._nodes)

    def run(self, run: RunSample) -> None:
        """Add a run of a watched engine. The newest MAX_RUNS are kept, ordered by time."""
        self._runs = tuple(sorted((*self._runs, run), key=lambda known: known.at_ns)[-MAX_RUNS:])
        if not run.baseline and (placement := tidy(run.placement)) is not None:
            known = self._running.present(self._names())
            engine = known.engine if known is not None and known.placement == placement else ""
            self.running(Running(placement, engine, source="watch", at_ns=run.at_ns))

    def sample(self, node_id: str, sample: Sample) -> bool:
        """Take one sample of node `node_id` (KeyError: unknown). Return False if it adds nothing, or its peer is
        unknown."""
        if type(sample) in _OF_PAIRS:
            self._settle()  # in the order in which they came
        src = self._index[node_id]
        changed = self._apply(src, sample)
        if changed:
            self._heard(src)
        return changed

    def _heard(self, src: int) -> None:
        """Note that a node has sent something that changes the picture."""
        node = self._nodes[src]
        node.fresh_ns = max(node.fresh_ns, int(self._node_columns["seen_ns"][src]))

    def samples(self, node_id: str, samples: Sequence[Sample]) -> None:
        """Take samples of node `node_id` (KeyError: unknown)."""
        for kind, alike in groupby(samples, type):
            if kind is LinkSample:
                self.windows(node_id, cast(list[LinkSample], list(alike)))
            elif kind is HostSample:
                src, readings = self._index[node_id], cast("list[HostSample]", list(alike))
                if True in [self._readings.add(src, reading) for reading in readings]:
                    self._heard(src)
            else:
                for sample in alike:
                    self.sample(node_id, sample)

    def windows(self, node_id: str, of: list[LinkSample] | LinkColumns) -> None:
        """Take windows of node `node_id` (KeyError: unknown), which wait to be taken together with others'."""
        src = self._index[node_id]
        self._waiting.append(windows_of(src, of, self._index.get, int(self._node_columns["seen_ns"][src])))
        if len(self._waiting) >= _MAX_WAITING:
            self._settle()

    def _settle(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        shown = iter(self._link_figures.links(waiting).tolist())
        for each in waiting:
            self._nodes[each.src].measured(each, list(islice(shown, len(each.dst))))

    def first_windows(self, windows: FirstWindows, ways: Sequence[tuple[int, Way]]) -> None:
        """Take the first window of many links at once, as `sample` would one by one; their hops come later. `ways`:
        (row, way) of those that name addresses."""
        self._link_figures.first(windows)
        for src in set(windows.src):
            self._heard(src)
        for src, way in ways:
            self._nodes[src].ways[way.peer], self._nodes[src].shown = way, None

    def row_of(self, node_id: str) -> int | None:
        return self._index.get(node_id)

    def earlier(self, node_id: str, peer: str, stamps: Sequence[StampedWindow], losses: Sequence[LossWindow]) -> None:
        """Replace the windows from which delays and losses of a link are estimated: `sample` adds one each."""
        self._settle()
        self._link_figures.earlier(self._index[node_id], self._index[peer], stamps, losses)

    def _apply(self, src: int, sample: Sample) -> bool:
        of_pair = _OF_PAIRS.get(type(sample))
        if of_pair is not None:
            dst = self._index.get(sample.peer)  # type: ignore[union-attr]
            if dst is None or dst == src or not of_pair(self, src, dst, sample):
                return False
            if isinstance(sample, LinkSample):
                self._nodes[src].note_ways([(sample.peer, sample.address, sample.interface)])
            return True
        if isinstance(sample, HostSample):
            return self._readings.add(src, sample)
        if isinstance(sample, ComputeSample):
            return self._compute(src, sample)
        if isinstance(sample, RooflineSample):
            return self._roofline(src, sample)
        if isinstance(sample, EventSample):
            self._add_event(src, sample)
        return True

    def _uplink(self, src: int, dst: int, sample: UplinkSample) -> bool:
        if not self._link_figures.uplink(src, dst, sample):
            return False
        for way, i in (("up", src), ("down", dst)):
            best = self._link_figures.best_transfer(i, out=way == "up")
            for column in ("mbps", "kind", "at_ns"):
                self._node_columns[f"{way}_{column}"][i] = best["mbps" if column == "mbps" else f"mbps_{column}"]
        return True

    def _compute(self, i: int, sample: ComputeSample) -> bool:
        node = self._nodes[i]
        if node.note and sample.at_ns >= node.note_at_ns:  # timed after a failure, which is over whatever counts
            node.note, node.shown = "", None
        known_ns = node.timings.known_ns(sample, node.facts)
        if known_ns and (not self._later(i, known_ns, sample.at_ns) or node.timings.disturbed(sample)):
            return False
        node.timings.add(sample, node.facts)
        if sample.phase == "visit":  # depends on the machine more than on the model: the newest one counts
            visit, layer = node.timings.visit_ms(sample)
            self._node_columns["overhead_ms"][i] = visit
            self._node_columns["visit_layer_ms"][i] = np.nan if layer is None else layer
        self._node_columns["compute_at_ns"][i] = max(sample.at_ns, int(self._node_columns["compute_at_ns"][i]))
        node.set_device(sample.device)
        node.shown = None
        return True

    def _roofline(self, i: int, sample: RooflineSample) -> bool:
        node = self._nodes[i]
        known_ns = node.timings.known_roofline_ns(sample)
        if known_ns and not self._later(i, known_ns, sample.at_ns):
            return False
        rates = node.timings.add_roofline(sample, node.facts)
        if rates is None:
            return False
        if not known_ns:
            node.shown = None  # its data sheet is no longer needed
        self._node_columns["mem_kind"][i] = Kind.MEASURED
        for column, rate in rates.items():
            self._node_columns[column][i] = rate
        return True

    def _add_event(self, i: int, sample: EventSample) -> None:
        node = self._nodes[i]
        self.event(sample.at_ns, node.node_id, sample.kind, sample.detail)
        if sample.kind in ("torch_missing", "compute_failed") and sample.at_ns >= max(
            node.note_at_ns, int(self._node_columns["compute_at_ns"][i])
        ):
            node.note, node.note_at_ns, node.shown = sample.detail, sample.at_ns, None

    # ------------------------------------------------------------ results

    def snapshot(self, now_ns: int, source: str = "", *, compact: bool = False) -> Swarm:
        """Return the Swarm as of `now_ns`. Link columns are read-only, and shared until they change, or `compact`."""
        self._settle()
        self._readings.show()
        n = len(self._nodes)
        self._link_figures.estimate(n, now_ns)
        nodes = {name: column[:n].copy() for name, column in self._node_columns.items()}
        nodes["state"] = self._aged(nodes["state"], nodes["seen_ns"], now_ns)
        facts = tuple(node.described() for node in self._nodes)
        for i, known in enumerate(facts):
            if known.sheet:
                self._from_sheet(nodes, i)
        return Swarm(
            at_ns=now_ns,
            facts=facts,
            nodes=nodes,
            links=self._links.compact_columns(n, now_ns) if compact else self._links.columns(n),
            source=source,
            events=self._events.shown(),
            runs=self._runs,
            running=self._running.present(self._names()),
        )

    def rtt_from(self, node_id: str) -> dict[str, float]:
        """Return node → lowest RTT in ms, of the measured links of `node_id`."""
        self._settle()
        i = self._index.get(node_id)
        measured = () if i is None else self._links.rtt_min_ms(i)
        return {self._nodes[dst].node_id: rtt_ms for dst, rtt_ms in measured}

    def least_rtts(self) -> tuple[Ints, Ints, Floats]:
        """Return (src, dst, lowest RTT in ms) of every measured link, as rows of `snapshot`."""
        self._settle()
        return self._links.least_rtts()

    def place(self, ids: tuple[str, ...], columns: dict[str, Floats]) -> None:
        """Set coordinates of these nodes, except those that are gone meanwhile."""
        rows = [(self._index[node_id], k) for k, node_id in enumerate(ids) if node_id in self._index]
        if rows:
            at, of = np.array(rows, np.int64).T
            for name, column in columns.items():
                self._node_columns[name][at] = column[of]

    def states(self, now_ns: int) -> list[int]:
        """Return only the nodes' states, in the order of their rows."""
        self._settle()
        n, columns = len(self), self._node_columns
        states: list[int] = self._aged(columns["state"][:n].copy(), columns["seen_ns"][:n], now_ns).tolist()
        return states

    def _aged(self, state: npt.NDArray[Any], seen_ns: npt.NDArray[Any], now_ns: int) -> npt.NDArray[Any]:
        fresh_ns = np.array([node.fresh_ns for node in self._nodes], np.int64)
        return aged(state, seen_ns, fresh_ns, now_ns, self._stale_after_ns, self._lost_after_ns)

    def _from_sheet(self, nodes: dict[str, npt.NDArray[Any]], i: int) -> None:
        """Fill in bandwidth and matrix rate of a node whose layers have not been timed, from its data sheet."""
        machine = sheet_of(self._nodes[i].facts)
        if machine is not None:
            nodes["mem_gbps"][i], nodes["mem_kind"][i] = machine.mem_gbps, Kind.ESTIMATE
            nodes["tflops"][i] = np.nan if machine.tflops is None else machine.tflops

    # ------------------------------------------------------------ small parts

    def _later(self, i: int, known_ns: int, at_ns: int, *, loaded: bool = False) -> bool:
        """Return whether a figure of `at_ns` replaces the one of `known_ns`."""
        return is_later(int(self._node_columns["seen_ns"][i]), known_ns, at_ns, loaded=loaded)

    def _grow(self) -> None:
        n, self._capacity = self._capacity, 2 * self._capacity
        for name, dtype in NODE_COLUMNS.items():
            column = blank(dtype, (self._capacity,))
            column[:n] = self._node_columns[name]
            self._node_columns[name] = column


_OF_PAIRS: Final[dict[type, Callable[[SwarmBuilder, int, int, Any], bool]]] = {
    LinkSample: lambda builder, src, dst, sample: builder._link_figures.link(
        src, dst, sample, int(builder._node_columns["seen_ns"][src])
    ),
    HopSample: lambda builder, src, dst, sample: builder._link_figures.hop(src, dst, sample),
    UplinkSample: SwarmBuilder._uplink,
}


def _name_of(index: dict[str, int], nodes: list[LiveNode], node_id: str) -> str | None:
    i = index.get(node_id)
    return None if i is None else nodes[i].name


def _seen_ns(columns: dict[str, npt.NDArray[Any]], i: int) -> int:
    return int(columns["seen_ns"][i])
