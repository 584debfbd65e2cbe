"""Keep the newest report of what a swarm runs, under the present names of its nodes. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from swarm_protocol.messages.running import Running, newer, renamed
from swarm_protocol.snapshot.event_log import EventLog


class RunningPlacement:
    def __init__(self, events: EventLog) -> None:
        """Create it empty. `events`: which tell the names that nodes no longer have."""
        self._events = events
        self._owners: dict[str, str] = {}  # names when the report came → node ids
        self.reported: Running | None = None  # None: nothing was reported

    def report(self, report: Running, names: Iterable[tuple[str, str]]) -> None:
        """Take a report; the newest counts. `names`: (present name, node id) of each node."""
        self.reported = newer(self.reported, report)
        if self.reported is report:
            self._owners = dict(names)

    def present(self, names: Iterable[tuple[str, str]]) -> Running | None:
        """Return the report with the present names of its nodes; `names` as in `report`."""
        if self.reported is None:
            return None
        by_id = {node_id: name for name, node_id in names}
        owners = self._owners | self._events.former_names(self.reported.at_ns)
        return renamed(self.reported, lambda name: by_id.get(owners.get(name, ""), name))
