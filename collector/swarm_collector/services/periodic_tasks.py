"""Run the collector's periodic work: send plans and leases, notice lost nodes, survey a large swarm, free memory."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from swarm_collector.process import memory
from swarm_collector.scheduling.measurement_plan import FULL_MESH
from swarm_collector.scheduling.survey import EVERY_S, columns_of, survey
from swarm_collector.state import SwarmState
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_MS, NS_PER_S

SENT_AT_ONCE: Final = 8
POLL_S: Final = 1.0  # the longest delay of the event that a node was lost
HAND_BACK_S: Final = 10.0  # a search over a thousand nodes leaves some 200 MB behind
GATHER_S: Final = 0.02  # requests for new plans in a burst of joins are handled together
LOOK_EVERY_NS: Final = NS_PER_S // 2
LOOK_A_MEMBER_NS: Final = NS_PER_MS // 2  # every 5 s in a swarm of ten thousand, which takes 20 ms

_log = logging.getLogger("swarm_collector")


class PeriodicTasks:
    def __init__(self, state: SwarmState) -> None:
        self._state = state
        self._looked_ns = 0

    async def dispatch(self) -> None:
        """Send plans and leases when they are due, and report lost nodes; until cancelled."""
        state = self._state
        while True:
            state.wall_ns()
            now_ns = state.clock.steady_ns()
            self._look(now_ns)
            due = state.dispatcher.due(now_ns) if state.cluster.leading else ()
            for count, one in enumerate(due, start=1):
                if one is not None:
                    state.sessions.send(*one)
                if one is None or count % SENT_AT_ONCE == 0:
                    await asyncio.sleep(0)  # ten thousand plans take seconds: batches go on meanwhile
            wait_s = POLL_S
            if state.cluster.leading:
                wait_s = (state.dispatcher.next_ns(now_ns) - state.clock.steady_ns()) / NS_PER_S
            state.poked.clear()
            try:
                async with asyncio.timeout(max(0.01, min(wait_s, POLL_S))):
                    await state.poked.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(GATHER_S)

    def _look(self, now_ns: int) -> None:
        """Check viewers, anomalies, silent sessions and lost nodes, each at its own interval."""
        state = self._state
        if state.viewer_count or state.cluster.watched:
            state.dispatcher.watched(now_ns)
        state.anomaly_monitor.look_when_due(now_ns)
        if now_ns < self._looked_ns + max(LOOK_EVERY_NS, LOOK_A_MEMBER_NS * len(state.sessions.probes)):
            return
        self._looked_ns = now_ns
        for session in tuple(state.sessions.probes.values()):
            session.look(now_ns)
        for event in state.membership.poll(now_ns):
            if state.cluster.leading:  # it publishes the event to the others
                state.report(event)

    async def hand_back_memory(self) -> None:
        """Return freed memory to the system now and then; until cancelled."""
        while True:
            await asyncio.sleep(HAND_BACK_S)
            await asyncio.to_thread(memory.hand_back)

    async def survey(self) -> None:
        """Update coordinates and the links worth measuring in a large swarm; until cancelled."""
        state = self._state
        while True:
            await asyncio.sleep(EVERY_S)
            if state.membership.sessions <= FULL_MESH:
                continue
            pairs, focus, before = state.builder.least_rtts(), state.dispatcher.scheduler.focus, state.latest_survey
            found = await asyncio.to_thread(survey, state.planning_snapshot(), pairs, focus, before)
            if found.why_not != before.why_not and found.why_not:
                _log.info("no placement to measure for: %s", safe(found.why_not))
            state.latest_survey = found
            if found.coordinates is not None:
                state.builder.place(found.ids, columns_of(found.coordinates))
                state.hub.changed()
            if state.dispatcher.scheduler.want(found.wanted):
                state.replan()
