"""Parse rules for a swarm, and evaluate a rule on an analysed frame. Pure.

    rule    METRIC [@ WHERE] OP VALUE      for example  rtt_p99_ms<250   age_s@kiln-07<60   loss@a>b<=0.01   state!=lost
    OP      <  <=  >  >=  ==  !=      (= is ==)
    VALUE   a number, with or without the unit of the metric: 250, 250ms, 1% (a loss of 0.01)
    WHERE   NODE (a node; or a link that begins or ends there)   SRC>DST (one directed link)   default: everywhere

A rule states a condition; each place where it does not hold is a breach. Metrics of links are judged on each directed
link that has the figure, those of nodes on each node, those of the swarm once. A rule that could not be evaluated
anywhere is breached too: a check that silently measures nothing is worse than none. Nodes that left are not judged,
and lost nodes only by state and age.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from swarm_protocol.snapshot.open_changes import change_key, open_changes
from swarm_protocol.snapshot.swarm import Event, State, Swarm
from swarmtop.analysis.analysis import Analysis, Row
from swarmtop.analysis.ranking.states import WORDS
from swarmtop.analysis.unmeasured import GONE
from swarmtop.text import quantities

Scope = Literal["link", "node", "swarm"]

OPERATORS: Final[dict[str, Callable[[object, object], bool]]] = {
    "<=": lambda a, b: operator.le(a, b),  # type: ignore[arg-type]
    ">=": lambda a, b: operator.ge(a, b),  # type: ignore[arg-type]
    "==": operator.eq,
    "!=": operator.ne,
    "<": lambda a, b: operator.lt(a, b),  # type: ignore[arg-type]
    ">": lambda a, b: operator.gt(a, b),  # type: ignore[arg-type]
}

LINK_METRICS: Final[dict[str, str]] = {
    "rtt_min_ms": "shortest round trip",
    "rtt_p50_ms": "round trip, median",
    "rtt_p95_ms": "round trip, p95",
    "rtt_p99_ms": "round trip, p99",
    "jitter_ms": "p95 − min of the round trip",
    "loss": "fraction of round trips lost",
    "hop_p50_ms": "activation-sized message, median",
    "hop_p95_ms": "activation-sized message, p95",
    "mbps": "throughput of the last transfer",
}
NODE_METRICS: Final[dict[str, str]] = {
    "cost_ms": "its share of the time per token; for a spare, what using it would add",
    "gain_ms": "what re-planning without it would gain",
    "up_mbps": "upload",
    "layer_ms": "one decoder layer",
    "vram_free_gib": "free memory for layers",
    "age_s": "time since the node was last heard from",
    "changes": "figures of the node and its links that got worse and have not recovered: changes==0",
    "state": "ok, slow, degraded, stale, lost or unknown",
}
SWARM_METRICS: Final[dict[str, str]] = {
    "running_tokens_per_s": "of the running placement, median",
    "tokens_per_s": "of the best placement, median",
    "tokens_per_s_p5": "of the best placement, slow end",
    "nodes_ok": "number of nodes that answer",
}

_PLANNED: Final = ("cost_ms", "gain_ms", "running_tokens_per_s", "tokens_per_s", "tokens_per_s_p5")

_RULE = re.compile(
    r"\s*(?P<metric>[a-z0-9_]+)\s*(?:@\s*(?P<src>[A-Za-z0-9._-]+)(?:>(?P<dst>[A-Za-z0-9._-]+))?\s*)?"
    r"(?P<op><=|>=|==|!=|<|>|=)\s*(?P<value>[A-Za-z0-9.+/%-]+)\s*"
)


# the end of a metric's name → how its unit may be written after a number
_UNITS: Final = {
    "_ms": ("ms",), "mbps": ("mbit/s", "mbps", "mbit"), "_gib": ("gib",), "_per_s": ("tok/s",), "age_s": ("s",),
}  # fmt: skip


class RuleError(ValueError):
    """An invalid rule; one line that says what is wrong and shows a valid one."""


@dataclass(frozen=True, slots=True)
class Rule:
    text: str
    metric: str
    scope: Scope
    src: str | None  # or the node
    dst: str | None
    op: str
    value: float | str


@dataclass(frozen=True, slots=True)
class Breach:
    rule: Rule
    where: str  # "kiln-07", "kiln-07>attic", "" for the swarm
    found: float | str | None  # None: nothing could be judged

    @property
    def line(self) -> str:
        if self.found is None:
            at = f" of {self.where}" if self.where else ""
            return f"{self.rule.text}: nothing to evaluate, no {self.rule.metric}{at} is known yet"
        found = f"is {self.found}" if isinstance(self.found, str) else f"has {quantities.figure(self.found)}"
        return f"{self.rule.text}: {self.where or 'the swarm'} {found}"


def parse_rule(text: str) -> Rule:
    """Parse a rule. Raises RuleError."""
    match = _RULE.fullmatch(text)
    if match is None:
        raise RuleError(f"{text[:80]!r} is not a rule; write METRIC<VALUE, as rtt_p99_ms<250")
    metric, src, dst = match["metric"], match["src"], match["dst"]
    scope: Scope
    if metric in LINK_METRICS:
        scope = "link"
    elif metric in NODE_METRICS:
        scope = "node"
    elif metric in SWARM_METRICS:
        scope = "swarm"
    else:
        known = ", ".join((*LINK_METRICS, *NODE_METRICS, *SWARM_METRICS))
        raise RuleError(f"there is no metric {metric!r}; there are {known}")
    if (dst and scope != "link") or (src and scope == "swarm"):
        raise RuleError(f"{metric} is a figure of the {scope}, not of {src}{'>' + dst if dst else ''}")
    op = {"=": "=="}.get(match["op"], match["op"])
    return Rule(text.strip(), metric, scope, src, dst, op, _value(metric, op, match["value"]))


def _value(metric: str, op: str, text: str) -> float | str:
    if metric == "state":
        if text not in WORDS or op not in ("==", "!="):
            raise RuleError(f"state is compared with == or != to one of {', '.join(WORDS)}")
        return text
    try:
        value = _without_unit(metric, text)
    except ValueError:
        raise RuleError(f"{metric} is compared with a number, not {text!r}") from None
    if not np.isfinite(value):
        raise RuleError(f"{metric} is compared with a finite number, not {text!r}")
    return value


def _without_unit(metric: str, text: str) -> float:
    """Raises ValueError."""
    if metric == "loss" and text.endswith("%"):
        return float(text[:-1]) / 100
    number = text.lower()
    for end, units in _UNITS.items():
        unit = next((unit for unit in units if number.endswith(unit)), None) if metric.endswith(end) else None
        if unit is not None:
            return float(number.removesuffix(unit))
    return float(number)


def needs_plan(rule: Rule) -> bool:
    """Return whether this rule needs a plan."""
    return rule.metric in _PLANNED or rule.value == "slow"


def breaches(rule: Rule, swarm: Swarm, found: Analysis) -> list[Breach]:
    """Return every place where `rule` is not true, ordered by name. Raises RuleError for a node that does not exist."""
    for name in (rule.src, rule.dst):
        if name is not None and name not in swarm.names:
            raise RuleError(f"{rule.text}: there is no node {name!r}")
    judged = sorted(_values(rule, swarm, found))
    if not judged:
        where = f"{rule.src}>{rule.dst}" if rule.dst else rule.src or ""
        return [Breach(rule, where, None)]
    holds = OPERATORS[rule.op]
    return [Breach(rule, where, value) for where, value in judged if not holds(value, rule.value)]


def _values(rule: Rule, swarm: Swarm, found: Analysis) -> Iterator[tuple[str, float | str]]:
    if rule.scope == "link":
        yield from _link_values(rule, swarm)
    elif rule.scope == "node":
        open_now = open_changes(swarm.events) if rule.metric == "changes" else ()
        for row in found.rows:
            value = _node_value(rule.metric, row, open_now)
            if value is not None and rule.src in (None, row.name):
                yield row.name, value
    elif rule.metric == "nodes_ok":
        yield "", float(sum(row.state is State.OK for row in found.rows))
    elif rule.metric == "running_tokens_per_s":
        now = found.running.tokens_per_s if found.running is not None else None
        if now is not None:
            yield "", now.p50
    elif found.plan is not None:
        speed = found.plan.prediction.tokens_per_s
        yield "", speed.p5 if rule.metric == "tokens_per_s_p5" else speed.p50


def _node_value(metric: str, row: Row, open_now: tuple[Event, ...]) -> float | str | None:
    if row.state is State.LEFT:
        return None
    if metric == "state":
        return row.word
    if row.state is State.LOST and metric != "age_s":
        return None
    if metric == "changes":  # a change of the swarm as a whole counts for every node
        return float(sum(event.node in ("", row.name) or change_key(event.detail) == row.name for event in open_now))
    value: float | None = getattr(row, metric)
    return value


def _link_values(rule: Rule, swarm: Swarm) -> Iterator[tuple[str, float | str]]:
    here = ~np.isin(swarm.nodes["state"], [int(state) for state in GONE])
    figures = swarm.links[rule.metric]
    known = np.isfinite(figures) & here[:, None] & here[None, :]
    np.fill_diagonal(known, False)
    for i, j in np.argwhere(known):
        src, dst = swarm.facts[i].name, swarm.facts[j].name
        fits = (src, dst) == (rule.src, rule.dst) if rule.dst else rule.src in (None, src, dst)
        if fits:
            yield f"{src}>{dst}", float(figures[i, j])
