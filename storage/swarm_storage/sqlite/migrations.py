"""Define the steps to schema versions 8 and later, after those in `migrations_1_to_7`. Steps are never edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from swarm_storage.sqlite.migrations_1_to_7 import FIRST_STEPS, VIEWS_4, VIEWS_6, create_latest, iso

if TYPE_CHECKING:
    from sqlite_utils import Database

_VIEWS_8: Final = {"link": VIEWS_6["link"].replace(" why ", " why, stamped_out_ms, stamped_back_ms ")}


def _version_8(db: Database) -> None:
    """Add the one-way stamps of round trips, from which one-way delays are estimated."""
    for column in ("stamped_out_ms REAL", "stamped_back_ms REAL"):
        db.conn.execute(f"ALTER TABLE link_sample ADD COLUMN {column}")
    db.conn.execute("DROP VIEW link")
    db.conn.execute("DROP VIEW link_latest")
    db.create_view("link", f"SELECT {iso('s.ts')} AS time, " + _VIEWS_8["link"].format("link"))
    create_latest(db, "link", _VIEWS_8["link"])


_VIEWS_9: Final = {"link": _VIEWS_8["link"].replace(" stamped_back_ms ", " stamped_back_ms, address, interface ")}


def _version_9(db: Database) -> None:
    """Add the address of the peer and the interface of the machine that carry a path."""
    for column in ("address TEXT", "interface TEXT"):
        db.conn.execute(f"ALTER TABLE link_sample ADD COLUMN {column}")
    db.conn.execute("DROP VIEW link")
    db.conn.execute("DROP VIEW link_latest")
    db.create_view("link", f"SELECT {iso('s.ts')} AS time, " + _VIEWS_9["link"].format("link"))
    create_latest(db, "link", _VIEWS_9["link"])


_VIEWS_10: Final = {
    "compute": VIEWS_4["compute"].replace(" marks ", " marks, stage_layers "),
    "host": VIEWS_6["host"].replace(
        " collector_rtt_ms ", " collector_rtt_ms, tcp, tcp_slow_start_after_idle, cpu_pressure_percent "
    ),
}


def _version_10(db: Database) -> None:
    """Add a machine's TCP, how long work waits for its processors, and the size of the stage that a visit was to."""
    for column in (
        "host_sample ADD COLUMN tcp TEXT",
        "host_sample ADD COLUMN tcp_slow_start_after_idle INTEGER",
        "host_sample ADD COLUMN cpu_pressure_percent REAL",
        "compute_sample ADD COLUMN stage_layers INTEGER",
    ):
        db.conn.execute(f"ALTER TABLE {column}")
    for name, body in _VIEWS_10.items():
        db.conn.execute(f"DROP VIEW {name}")
        db.create_view(name, f"SELECT {iso('s.ts')} AS time, " + body.format(name))


# step i leads to version i + 1
STEPS: Final[tuple[Callable[[Database], None], ...]] = (*FIRST_STEPS, _version_8, _version_9, _version_10)
