"""Run the change detector on committed samples, and report each change with its effect on the plan."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from swarm_collector.changes.detected_change import Found, describe
from swarm_collector.changes.detector import ChangeDetector
from swarm_collector.changes.plan_rate import PlanRate
from swarm_collector.clock import Clock
from swarm_collector.members.membership import Membership, NodeEvent
from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import Sample
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.snapshot.open_changes import RESTARTED, open_changes
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S

EVERY_S: Final = 0.5
OTHER_END_S: Final = 1.0  # the measurement of a link's other end belongs to the same effect
EFFECT_S: Final = 3.0  # a change is reported without its effect rather than later
LATE_NS: Final = 120 * NS_PER_S  # samples that a spool delivers later are history
SILENT_NS: Final = 2 * NS_PER_S  # in addition to two heartbeats: the node may be about to be lost

_log = logging.getLogger("swarm_collector.changes")


class ChangeMonitor:
    """`snapshot`: the live Swarm; `leads`: whether this collector reports what concerns the whole swarm."""

    def __init__(
        self,
        membership: Membership,
        clock: Clock,
        snapshot: Callable[[], Swarm],
        focus: Callable[[], Focus],
        report: Callable[[NodeEvent], None],
        leads: Callable[[], bool],
        planned: Callable[[Mapping[str, float]], None],
    ) -> None:
        """Create it. `planned` receives, by node id, how long a token of the best placement is away from each node, in
        ms."""
        self._membership = membership
        self._clock = clock
        self._snapshot = snapshot
        self._focus = focus
        self._report = report
        self._leads = leads
        self._planned = planned
        self._detector = ChangeDetector()
        self._plan = PlanRate()
        self._planning = asyncio.Lock()  # one thread at a time uses the plan

    def committed(self, node_id: str, samples: Iterable[Sample], links: LinkColumns | None = None) -> None:
        """Take stored samples of this node, and windows in columns."""
        late_ns = self._clock.wall_ns() - LATE_NS
        if links is not None:
            self._detector.add_windows(node_id, links, late_ns)
        for sample in samples:
            if sample.at_ns >= late_ns:
                self._detector.add(node_id, sample)

    def forget(self, node_id: str) -> None:
        self._detector.forget(node_id)

    async def run(self) -> None:
        """Run until cancelled."""
        self._end_earlier()
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._watch())
            parts.create_task(self._keep_plan())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()

    async def _keep_plan(self) -> None:
        """Search for the best placement from time to time, while nothing changes."""
        while True:
            await asyncio.sleep(EVERY_S)
            wall_ns = self._clock.wall_ns()
            if self._detector.quiet and self._leads() and self._membership.sessions and self._plan.is_due(wall_ns):
                async with self._planning:
                    change = await asyncio.to_thread(self._plan.look, self._snapshot(), self._focus(), wall_ns)
                if away_ms := self._plan.away_ms:
                    self._planned(away_ms)
                if change is not None:
                    self._report(NodeEvent(None, *change))

    async def look(self) -> None:
        """Report what has changed by now."""
        self._note_absences()
        wall_ns = self._clock.wall_ns()
        changes = self._detector.advance(wall_ns)
        if changes:
            await asyncio.sleep(OTHER_END_S)
        for found in changes:
            effect = await self._effect(found)
            if self._leads():
                self._report(event(found, self._name_of, effect))

    def _note_absences(self) -> None:
        """Ignore links of nodes that have left or are silent."""
        if self._detector.quiet:
            return
        now_ns = self._clock.steady_ns()
        for node_id in self._detector.measured:
            member = self._membership.get(node_id)
            if member is None or member.session is None or member.lost:
                self._detector.away(node_id)
            elif now_ns - member.heard_ns > 2 * self._membership.beat_ns(member) + SILENT_NS:
                self._detector.ignore_evidence(node_id)

    async def _effect(self, found: Found) -> str:
        if found.kind == "settled":
            return ""
        try:
            async with asyncio.timeout(EFFECT_S), self._planning:
                return await asyncio.to_thread(self._plan.effect, self._snapshot(), found.subject.node)
        except TimeoutError:
            _log.info("the effect of a change on the plan takes longer than %g s and is not reported", EFFECT_S)
            return ""

    def _end_earlier(self) -> None:
        """End changes that were open when the collector stopped: their usual levels are no longer known."""
        if not self._leads():
            return
        names = {member.name: member.node_id for member in self._membership.everybody()}
        for change in open_changes(self._snapshot().events):
            detail = f"{RESTARTED}: changes from before are no longer tracked"
            self._report(NodeEvent(names.get(change.node), "settled", detail))

    def _name_of(self, node_id: str) -> str:
        member = self._membership.get(node_id)
        return member.name if member is not None else node_id


def event(found: Found, name_of: Callable[[str], str], effect: str = "") -> NodeEvent:
    detail = describe(found, name_of)
    return NodeEvent(found.subject.node, found.kind, safe(f"{detail}; {effect}" if effect else detail, limit=300))
