"""Evaluate the user's alert rules on a live swarm. `alerts.state` decides when a rule fires."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from swarm_protocol.snapshot.swarm import Swarm
    from swarmtop.alerts.state import Alerts
    from swarmtop.analysis.analysis import Analysis


class LiveAlerts:
    def __init__(self, rules: Sequence[str]) -> None:
        self._texts = tuple(rules)
        self._alerts: Alerts | None = None  # made with the first answer, if rules are set

    @property
    def firing(self) -> tuple[str, ...]:
        """Return a line for each alert that fires, the oldest first."""
        return self._alerts.firing if self._alerts is not None else ()

    def look(self, steady_ns: int, swarm: Swarm, analysis: Analysis) -> Iterator[tuple[str, bool]]:
        """Yield lines to show, and whether each is an event: what fires and clears is, a name not found is not."""
        if not self._texts:
            return
        from swarmtop.alerts.state import Alerts, parse_alert  # only for those who have set rules
        from swarmtop.analysis.rules import RuleError

        if self._alerts is None:
            self._alerts = Alerts([parse_alert(rule) for rule in self._texts])
        try:
            changes = self._alerts.look(steady_ns, swarm, analysis)
        except RuleError as error:  # a node that does not exist, or not yet: looked for again next time
            yield str(error), False
            return
        for change in changes:
            yield change.line, True
