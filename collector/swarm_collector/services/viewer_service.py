"""Act on what viewers' sessions request: frames, another model to measure for, and runs to store."""

from __future__ import annotations

import msgspec

from swarm_collector.cluster.events import FocusChanged
from swarm_collector.members.membership import NodeEvent
from swarm_collector.sessions.running_report import checked
from swarm_collector.sessions.session_table import ViewerConnection
from swarm_collector.sessions.viewer_stream import Feed, Outbox
from swarm_collector.state import SwarmState
from swarm_protocol.messages.running import RUNNING_SETTING, Running, detail_of, tidy
from swarm_protocol.messages.samples import RunSample
from swarm_protocol.messages.viewer_messages import FOCUS_SETTING, Focus
from swarm_protocol.text import safe


class ViewerService:
    """`sessions.interfaces.ViewerSwarm` for the sessions of this collector."""

    def __init__(self, state: SwarmState) -> None:
        self._state = state
        self.clock = state.clock
        self.limits = state.settings.limits
        self.pulse = state.settings.pulse
        self.token = state.token
        self.store_client = state.store_client
        self.session_line = state.session_line

    def viewer_joined(self, viewer: ViewerConnection, outbox: Outbox, rate_hz: float) -> Feed:
        self._state.sessions.viewers[viewer.number] = viewer
        self._state.dispatcher.watched(self._state.clock.steady_ns())
        self._state.poked.set()
        if self._state.intake.trouble is not None:
            viewer.notice(f"nothing is stored now: {self._state.intake.trouble}")
        return self._state.hub.join(outbox, rate_hz)

    def viewer_left(self, viewer: ViewerConnection, outbox: Outbox, feed: Feed) -> None:
        self._state.sessions.viewers.pop(viewer.number, None)
        self._state.hub.leave(outbox, feed)
        self._state.dispatcher.watched(self._state.clock.steady_ns())

    def set_focus(self, focus: Focus, *, operator: bool) -> str | None:
        """Measure for another model; return None, or why not. Raises FocusError.

        Every machine computes for it, so in a swarm without a token only the operator may change it. A viewer's default
        does not replace what a person has chosen.
        """
        before = self._state.dispatcher.scheduler.focus
        focus = msgspec.structs.replace(focus, chosen=focus.chosen is not False)
        same = focus == msgspec.structs.replace(before, chosen=focus.chosen)
        if before.chosen and not focus.chosen:
            if same:
                return None
            return (
                f"this swarm goes on measuring for {safe(before.model)} in {safe(before.dtype)}, which somebody chose, "
                f"and not for {safe(focus.model)}, a default; choose with --model"
            )
        if focus != before and not operator and not self.token:
            if same:
                return None
            return (
                "only this swarm's operator changes the model that is measured, since anybody may watch it; "
                "run swarmtop as the collector's user on its machine, or give the collector a token"
            )
        refusal = self._state.dispatcher.focus(focus, self._state.clock.steady_ns(), operator=operator)
        if refusal is None and focus != before:
            if not same:
                self._state.report(
                    NodeEvent(None, "note", f"measuring for {safe(focus.model)} in {safe(focus.dtype)} from now on")
                )
            self._state.store_client.set_setting(FOCUS_SETTING, msgspec.json.encode(focus).decode())
            self._state.publish(FocusChanged(focus))
        return refusal

    async def keep_run(self, run: RunSample) -> None:
        """Store a run that a viewer has timed. Raises StoreError."""
        shown = {name: safe(getattr(run, name), limit=300) for name in ("endpoint", "model", "label")}
        placement = tidy(run.placement) or ""
        run = msgspec.structs.replace(run, at_ns=self._state.wall_ns(), placement=placement, **shown)
        await self._state.store_client.run(run)
        self._state.builder.run(run)
        self._state.hub.changed()

    def set_running(self, running: Running) -> str:
        """Tell all viewers and recordings what the swarm runs now. Return an empty text, or why it is refused."""
        state = self._state
        found = checked(running, lambda name: state.membership.named(name) is not None, state.clock.wall_ns())
        if isinstance(found, str):
            return found
        state.store_client.set_setting(RUNNING_SETTING, msgspec.json.encode(found).decode())
        state.report(NodeEvent(None, "running", detail_of(found)))
        return ""
