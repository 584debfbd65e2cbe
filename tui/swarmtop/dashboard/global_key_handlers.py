"""Handle the keys that work on every screen; `keymap` assigns the keys."""

from __future__ import annotations

from swarmtop.dashboard import keymap
from swarmtop.dashboard.lines.overview import ranking
from swarmtop.dashboard.lines.styled import clean
from swarmtop.dashboard.playback import NO_PAST
from swarmtop.dashboard.screen_api import DashboardBase
from swarmtop.dashboard.screens.page import Page
from swarmtop.dashboard.session import JUMP_NS, STEP_NS
from swarmtop.dashboard.terminal import app_theme
from swarmtop.dashboard.widgets.colours import ANSI


class KeyActions(DashboardBase):
    def _go(self, screen: keymap.Screen, *, remember: bool = True) -> None:
        here = self.screen
        if not isinstance(here, Page) or screen == here.NAME:
            return
        if remember:
            self._came_from = [*self._came_from[-20:], here.NAME]
        self.switch_screen(self.page(screen))

    def open_node(self, node_id: str) -> None:
        self.session.chosen = node_id
        self._go("node")

    def action_go_overview(self) -> None:
        self._go("overview")

    def action_go_node(self) -> None:
        self._go("node")

    def action_go_links(self) -> None:
        self._go("links")

    def action_go_placement(self) -> None:
        self._go("placement")

    def action_go_time(self) -> None:
        self._go("time")

    async def action_back(self) -> None:
        self._go(self._came_from.pop() if self._came_from else "overview", remember=False)

    def action_pause(self) -> None:
        if self.session.standing == "file":
            self.say("a swarm file has only one frame")
        self.session.toggle_pause()
        self.tick()

    def action_step(self) -> None:
        self.travel.go_by(STEP_NS)

    def action_step_back(self) -> None:
        self.travel.go_by(-STEP_NS)

    def action_jump(self) -> None:
        self.travel.go_by(JUMP_NS)

    def action_jump_back(self) -> None:
        self.travel.go_by(-JUMP_NS)

    def action_next_event(self) -> None:
        self.travel.to_event(forward=True)

    def action_previous_event(self) -> None:
        self.travel.to_event(forward=False)

    def action_latest(self) -> None:
        self.travel.to_the_newest()

    def action_follow(self) -> None:
        """Follow the chosen node, or the first of the ranking if none is chosen."""
        session, view = self.session, self.view()
        if view is None or not len(view.swarm):
            return
        order = ranking.order(view, session.sort, session.reverse, session.filter)
        facts = view.swarm.facts
        first = facts[int(order[0])].node_id if len(order) else facts[0].node_id
        session.follow(session.chosen if any(f.node_id == session.chosen for f in facts) else first)
        name = next((f.name for f in facts if f.node_id == session.followed), "")
        self.say(f"following {clean(name, 40)}" if session.followed else "no node is followed any more")
        self.redraw()

    def action_mark(self) -> None:
        """Set the mark to the moment shown, or remove it if it is already there."""
        session, view = self.session, self.view()
        if view is None:
            return
        if session.mark is not None and session.mark.at_ns == view.swarm.at_ns:
            session.mark = None
            self.say("mark removed")
        else:
            from swarmtop.dashboard.state.mark import take  # imported when a mark is set

            session.mark = take(view)
            self.say(f"marked {view.clock(view.swarm.at_ns)}; differences from it are shown")
        self.redraw()

    def action_theme(self) -> None:
        if self.ink.plain:
            self.say("there are no colours to choose: NO_COLOR is set")
            return
        from swarmtop.dashboard.screens import pickers

        pickers.choose_theme(self)

    def use_theme(self, name: str) -> None:
        self.ink.use(name)
        self.ansi_color = True if name == ANSI else None
        self.theme = app_theme.theme_name(name)
        for screen in self.screen_stack:
            for widget in screen.walk_children():
                widget.refresh()

    def action_slower(self) -> None:
        self._change_speed(-1)

    def action_faster(self) -> None:
        self._change_speed(1)

    def _change_speed(self, by: int) -> None:
        self.session.change_speed(by)
        self.tick()

    def action_go_to(self) -> None:
        if self.session.span is None:
            self.say(NO_PAST)
            return
        from swarmtop.dashboard.screens import pickers

        pickers.ask_time(self)

    def action_next_screen(self) -> None:
        if isinstance(self.screen, Page):
            at = keymap.SCREENS.index(self.screen.NAME)
            self._go(keymap.SCREENS[(at + 1) % len(keymap.SCREENS)])

    def action_refresh(self) -> None:
        self.session.ask_again()
        self.tick()
        self.refresh(layout=True)

    def action_model(self) -> None:
        from swarmtop.dashboard.screens import pickers

        pickers.choose_model(self)

    def action_engine(self) -> None:
        from swarmtop.dashboard.screens import pickers

        pickers.choose_engine(self)

    def action_weights(self) -> None:
        from swarmtop.dashboard.screens import workload

        workload.choose_weights(self)

    def action_activations(self) -> None:
        from swarmtop.dashboard.screens import workload

        workload.choose_activations(self)

    def action_client(self) -> None:
        from swarmtop.dashboard.screens import workload

        workload.choose_client(self)

    def action_workload(self) -> None:
        from swarmtop.dashboard.screens import workload

        workload.choose_any(self)

    def action_context(self) -> None:
        self._choose_number("context")

    def action_batch(self) -> None:
        self._choose_number("batch")

    def action_streams(self) -> None:
        self._choose_number("streams")

    def _choose_number(self, field: str) -> None:
        from swarmtop.dashboard.screens import workload

        workload.choose_number(self, field)

    def action_help(self) -> None:
        if isinstance(self.screen, Page):
            from swarmtop.dashboard.screens import pickers

            pickers.show_help(self, self.screen)

    def action_palette(self) -> None:
        if isinstance(self.screen, Page):
            from swarmtop.dashboard.screens import pickers

            pickers.show_palette(self, self.screen)

    async def action_quit(self) -> None:
        """Quit at once, unless that would end the collector while others are joined to it."""
        others = self.session.members_beside_us()
        if self.options.keep_collector is None or not others:
            self.finish(0)
            return
        from swarmtop.dashboard.screens import pickers

        pickers.ask_leaving(self, others)

    def leave_running(self) -> None:
        """End the dashboard and leave its collector running."""
        if self.options.keep_collector is not None:
            self.farewell = self.options.keep_collector()
        self.finish(0)

    def action_interrupt(self) -> None:
        self.finish(130)

    def action_suspend(self) -> None:
        self.action_suspend_process()
