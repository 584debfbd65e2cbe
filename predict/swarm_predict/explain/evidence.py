"""Describe what is known about a term of a token's time: measured beside usual, and what disturbs it now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.machine.layer_times import How, LayerColumns, by_hand, layer_columns
from swarm_predict.cost.network.delivery_times import Links, links
from swarm_predict.cost.speculative import step_width
from swarm_predict.explain.terms import Term
from swarm_predict.explain.usual import Range, usual_path
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.factors import canonical
from swarm_predict.types import Workload
from swarm_protocol.devices.machines import known_machine
from swarm_protocol.snapshot.swarm import Kind, LayerTime, Swarm

BUSY_PERCENT: Final = 90.0  # of the processor: above, an engine's host thread has to wait
APART: Final = 0.05  # of a bandwidth: below, it agrees with the data sheet
LOSSY: Final = 0.001
LATE: Final = 0.1  # of the path's time: less delay variation is usual
_MARKS: Final = {
    "throttled": "it was throttled while the layer was timed",
    "contended": "other programs used the device while the layer was timed",
    "battery": "it ran on battery while the layer was timed",
    "eager": "timed with kernels launched one by one, as fused engines do not",
    "loose": "the timing ended before its median was known to 2 %",
}
_HOW: Final = {
    How.MEASURED: "measured",
    How.OUTSIDE: "scaled from another batch or context that was measured",
    How.OTHER_DTYPE: "scaled by bytes from another format that was measured",
    How.OTHER_MODEL: "scaled from another model that was measured",
    How.ROOFLINE: "from bandwidth and published results, not measured",
    How.UNKNOWN: "not known",
}


LEARNT: Final = "from bandwidth and the calibration, not measured"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Describe terms of one swarm and question; `layer` and `paths` are over all its nodes."""

    swarm: Swarm
    model: ModelShape
    workload: Workload
    layer: LayerColumns
    paths: Links
    throttled: Mapping[str, float]  # share of the time in which a node was throttled; empty: not recorded

    def of(self, term: Term, usual: Range | None) -> tuple[str, ...]:
        """Describe one term. `usual`: of one layer or one message of the term, if its kind is known."""
        if term.node not in self.swarm.names or engine_facts(self.workload).pattern == "all-reduce":
            return self._of_many(term, usual)
        row = self.swarm.index(term.node)
        if term.kind == "layers":
            return (*self._layer(row, term, usual), *self._state(row))
        if term.kind == "head":
            return ("the LM head, at the pace of its layers" if self.layer.measured[row] else "the LM head, not timed",)
        if term.kind == "visits":
            return (*self._visits(row, term, usual), *self._busy(row))
        if term.kind == "path":
            return self._path(row, self.swarm.index(term.to), term)
        return self._of_many(term, usual)

    def _of_many(self, term: Term, usual: Range | None) -> tuple[str, ...]:
        if term.kind == "unmodelled":
            return (f"the runs of the calibration left {self.workload.model_error:.1%} unexplained",)
        if term.kind == "client":
            return ("from the calibration: the client's own time in each step",)
        if term.kind == "layers":
            return (
                f"{_ms(term.typical_ms / term.count)} a layer on the slowest share{_usual_text(usual)}",
                *self._states(term),
            )
        if term.kind in ("visits", "path"):
            what = "of software" if term.kind == "visits" else "on the way"
            return (f"{_ms(term.typical_ms / term.count)} {what} in each of {term.count} rounds{_others(usual)}",)
        return ()

    # ------------------------------------------------------------ machines

    def _layer(self, row: int, term: Term, usual: Range | None) -> list[str]:
        facts, how = self.swarm.facts[row], self.layer.how[row]
        device = f" ({facts.device})" if facts.device else ""
        learnt = how is How.ROOFLINE and self.workload.priors is not None and not self.workload.priors.neutral
        source = LEARNT if learnt else _HOW[how]
        said = [f"{_ms(term.typical_ms / term.count)} a layer, {source}{_usual_text(usual, device)}"]
        if usual is None:
            why = "its device is not named" if not facts.device else f"no data sheet of {facts.device}"
            said.append(f"nothing usual to compare with: {why}")
        said += self._sheet(row)
        if self.layer.measured[row]:
            said += self._same_devices(row)
            said += [_MARKS[mark] for mark in self._marks(row) if mark in _MARKS]
        if self.layer.beats_roofline[row]:
            said.append("faster than the known memory bandwidth allows; one of the two figures is wrong")
        return said

    def _marks(self, row: int) -> list[str]:
        own = [t for t in self.swarm.facts[row].layers if t.phase == "decode"]
        ours = [t for t in own if t.model in (self.model.name, "*")] or own
        newest: LayerTime | None = max(ours, key=lambda t: t.at_ns, default=None)
        return [] if newest is None else [mark for mark in newest.marks.split(",") if mark]

    def _sheet(self, row: int) -> list[str]:
        known = float(self.swarm.nodes["mem_gbps"][row])
        facts = self.swarm.facts[row]
        sheet = known_machine(facts.device) if facts.device else None
        if sheet is None or not math.isfinite(known) or int(self.swarm.nodes["mem_kind"][row]) == Kind.ESTIMATE:
            return []
        if abs(math.log(known / sheet.mem_gbps)) < APART:
            return []
        return [f"memory bandwidth {known:.0f} GB/s; data sheet of {sheet.name}: {sheet.mem_gbps:.0f}"]

    def _same_devices(self, row: int) -> list[str]:
        device = canonical(self.swarm.facts[row].device)
        alike = [
            k
            for k, facts in enumerate(self.swarm.facts)
            if k != row and device and canonical(facts.device) == device and self.layer.measured[k]
        ]
        times = [(float(self.layer.ms[k]), self.swarm.facts[k].name) for k in alike]
        if not times:
            return []
        listed = ", ".join(f"{name} {_ms(ms)}" for ms, name in sorted(times)[:3])
        return [f"the same device here: {listed}"]

    def _state(self, row: int) -> list[str]:
        name = self.swarm.facts[row].name
        share = self.throttled.get(name)
        if share is not None and share > 0:
            return [f"it was throttled {100 * share:.0f} % of the time"]
        if self.swarm.nodes["throttled"][row] == 1:
            return ["it is throttled now"]
        return []

    def _states(self, term: Term) -> list[str]:
        """Describe the states of the nodes of a term."""
        named = [row for row, name in enumerate(self.swarm.names) if name in term.node.split(" and ")]
        return [f"{self.swarm.names[row]}: {line}" for row in named for line in self._state(row)]

    def _busy(self, row: int) -> list[str]:
        cpu = float(self.swarm.nodes["cpu_percent"][row])
        return [f"its processor is {cpu:.0f} % busy"] if cpu >= BUSY_PERCENT else []

    def _visits(self, row: int, term: Term, usual: Range | None) -> list[str]:
        each, engine = term.typical_ms / term.count, self.workload.engine
        own = float(self.swarm.nodes["overhead_ms"][row])
        messages = f"a message, {term.count} per token"
        if self.workload.hop_overhead_ms:
            return [f"{_ms(each)} {messages}, by the calibration{_others(usual)}"]
        if not term.measured:
            return [f"software of {engine} not measured here: {_ms(each)} {messages}{_others(usual)}"]
        source = "from the swarm file" if by_hand(self.swarm) else "measured"
        if math.isfinite(own):
            return [f"{_ms(each)} {messages}, {source}{_others(usual)}"]
        return [f"{_ms(each)} {messages}; the rest is in the measured hops"]

    # ------------------------------------------------------------ paths

    def _path(self, src: int, dst: int, term: Term) -> tuple[str, ...]:
        paths = self.paths
        least, p50 = float(paths.rtt_min_ms[src, dst]), float(paths.rtt_p50_ms[src, dst])
        messages = f"{term.count} message{'s' if term.count > 1 else ''} per token"
        kind = " (an estimate)" if paths.estimated[src, dst] else ""
        trip = f"round trip {_ms(p50)}{kind}" if math.isfinite(p50) else "no round trip is known"
        idle = f", idle {_ms(least)}" if math.isfinite(least) and p50 > least * (1 + APART) else ""
        said = [f"{trip}{idle}; {messages}"]
        quiet_ms = term.quiet_ms or 0.0
        late_ms = term.typical_ms - quiet_ms - term.restart_ms
        if late_ms > LATE * max(quiet_ms, 1e-9):
            said.append(f"{_ms(late_ms)} of it is jitter and lost packets{self._disturbed(src, dst)}")
        if term.restart_ms > 0:
            said.append(f"{_ms(term.restart_ms)} of it: TCP restarting its window after each pause")
        said += self._bytes(src, dst, term)
        said += self._others(src, dst, term)
        return tuple(said)

    def _disturbed(self, src: int, dst: int) -> str:
        jitter, loss = float(self.paths.jitter_ms[src, dst]), float(self.paths.loss[src, dst])
        said = [f"jitter {_ms(jitter)}"] if jitter > 0 else []
        said += [f"{100 * loss:.2g} % lost"] if loss >= LOSSY else []
        return f" ({', '.join(said)})" if said else ""

    def _bytes(self, src: int, dst: int, term: Term) -> list[str]:
        if self.paths.rate_free[src, dst]:
            return [f"no upload of {self.swarm.facts[src].name} is known: its transfer time is counted as 0"]
        rate = float(self.paths.rate_mbps[src, dst])
        if term.upload_ms < LATE * (term.quiet_ms or 0.0) or not math.isfinite(rate):
            return []
        bound = "at least " if self.paths.rate_bound[src, dst] else ""
        return [f"{_ms(term.upload_ms)} of it: {term.size_bytes / 1e3:.3g} kB a message at {bound}{rate:.3g} Mbit/s"]

    def _others(self, src: int, dst: int, term: Term) -> list[str]:
        usual = usual_path(self.paths, self.swarm.names, src, dst)
        said = []
        if usual.rtt_ms is not None and float(self.paths.rtt_min_ms[src, dst]) > usual.rtt_ms * (1 + LATE):
            said.append(f"{usual.said} {_ms(usual.rtt_ms)}")
        rate = float(self.paths.rate_mbps[src, dst])
        if usual.mbps is not None and rate < usual.mbps * (1 - LATE) and term.upload_ms > LATE * (term.quiet_ms or 0.0):
            said.append(f"the others send to {self.swarm.facts[dst].name} at {usual.mbps:.3g} Mbit/s")
        return said


def evidence_of(
    swarm: Swarm, model: ModelShape, workload: Workload, throttled: Mapping[str, float] | None = None
) -> Evidence:
    rows = range(len(swarm))
    layer = layer_columns(
        swarm, rows, model, workload.weights, "decode", step_width(workload), workload.context,
        engine=workload.engine, priors=workload.priors, tensor_parallel=workload.tensor_parallel,
    )  # fmt: skip
    return Evidence(swarm, model, workload, layer, links(swarm, rows), throttled or {})


def _usual_text(usual: Range | None, device: str = "") -> str:
    return "" if usual is None else f"; machines like it{device} take {figures(usual)}"


def _others(usual: Range | None) -> str:
    return "" if usual is None else f"; elsewhere {figures(usual)}"


def figures(usual: Range) -> str:
    return f"{usual.p5:.3g} to {usual.p95:.3g} ms"


def _ms(value: float) -> str:
    return f"{value:.3g} ms" if abs(value) < 999.5 else f"{value:.0f} ms"
