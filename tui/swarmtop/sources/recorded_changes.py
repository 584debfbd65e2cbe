"""Find the changes in a recording of a collector that did not look for them yet, with the collector's own detector.

That takes 30 µs a sample and 70 MB for the links of 1,000 nodes, so a screen has it done in a worker process where the
recording is large.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from swarm_protocol.messages.samples import CHANGE_KINDS
from swarm_protocol.snapshot.swarm import Event
from swarm_storage.store import open_store

if TYPE_CHECKING:
    from swarm_storage.history.recording import Reader

LOOKED_THROUGH: Final = 500_000  # samples, the first: an hour of 20 nodes under a dashboard, in some 10 s
MANY_SAMPLES: Final = 20_000  # of links: fewer are looked through while a process would start
_CHANGES_OF: Final = ("link", "uplink", "compute", "host", "event")


def are_stored(reader: Reader) -> bool:
    """Return whether the collector itself looked for changes."""
    marks = ", ".join("?" for _ in CHANGE_KINDS)
    return bool(reader.query(f"SELECT 1 FROM event_sample WHERE kind IN ({marks}) LIMIT 1", CHANGE_KINDS))


def take_long(reader: Reader) -> bool:
    return bool(reader.query("SELECT 1 FROM link_sample LIMIT 1 OFFSET ?", (MANY_SAMPLES,)))


def find(reader: Reader, is_closing: Callable[[], bool]) -> tuple[Event, ...]:
    """Return the changes, in order of time."""
    from swarm_collector.changes.recorded_changes import recorded_changes  # only for old recordings

    names = {row.node_id: row.name for row in reader.nodes()}
    samples = itertools.islice(reader.samples(kinds=_CHANGES_OF), LOOKED_THROUGH)
    read = itertools.takewhile(lambda _: not is_closing(), samples)
    return tuple(recorded_changes(read, lambda node_id: names.get(node_id, node_id)))


def find_in(file: str) -> tuple[Event, ...]:
    """Return the changes of a file. For a worker process; raises StoreError."""
    store = open_store(file, read_only=True)
    try:
        return find(store.reader, lambda: False)
    finally:
        store.close()
