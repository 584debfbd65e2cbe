"""Pack and unpack the bundled recording, which `swarmtop lab` shows if it cannot create hosts.

`swarmtop lab record` makes it again: the database of a run of a bundled scenario, packed (xz). It is unpacked to a
folder of the caller's and brought up to the present schema there.
"""

from __future__ import annotations

import lzma
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Final

from swarm_protocol.units import NS_PER_S
from swarm_storage.store import open_store

RECORDED: Final = "five-homes"  # the scenario: it has a change that the screens report
SHOWN_BEFORE_END_S: Final = 80.0  # by then the uplink of paris has been bad for a while
_FREQUENT: Final = (  # tables of the samples that come every few seconds, and their column of time
    ("link_sample", "ts"), ("host_sample", "ts"), ("link_minute_rollup", "t"), ("host_minute_rollup", "t"),
)  # fmt: skip
_FILE: Final = resources.files("swarm_lab").joinpath("recordings", f"{RECORDED}.db.xz")


def unpack(folder: Path) -> tuple[Path, str]:
    """Write the bundled database to `folder`; return (file, a moment worth looking at, ISO 8601).

    Raises StoreError, OSError.
    """
    target = folder / "swarm.db"
    target.write_bytes(lzma.decompress(_FILE.read_bytes()))
    store = open_store(f"sqlite:///{target}")  # of an older schema: the migrations run
    try:
        ends_ns = max(sample.at_ns for _, sample in store.reader.samples(kinds=("link",)))
    finally:
        store.close()
    shown = datetime.fromtimestamp(ends_ns / NS_PER_S - SHOWN_BEFORE_END_S, UTC)
    return target, shown.strftime("%Y-%m-%dT%H:%M:%SZ")


def pack(database: Path, target: Path, from_ns: int = 0) -> int:
    """Pack a database that is not being written; return the bytes written.

    Round trips and host states from before `from_ns` are left out: they are most of a recording, and those of the
    minutes in which layers were timed are of no interest. Raises OSError, sqlite3.Error.
    """
    compact = target.with_name(f".{target.name}.db")
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM INTO ?", (str(compact),))
        with closing(sqlite3.connect(compact)) as connection:
            for table, column in _FREQUENT:
                connection.execute(f"DELETE FROM {table} WHERE {column} < ?", (from_ns,))
            connection.commit()
            connection.execute("VACUUM")
        target.write_bytes(lzma.compress(compact.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
    finally:
        compact.unlink(missing_ok=True)
    return target.stat().st_size
