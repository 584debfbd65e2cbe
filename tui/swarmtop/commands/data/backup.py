"""`swarmtop backup`: make a consistent copy of a recording while its collector continues to write."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from swarm_protocol.text import safe
from swarm_protocol.trust.identity import default_state_dir
from swarm_protocol.units import iso_utc
from swarmtop.errors import DONE, CommandError
from swarmtop.progress import progress

EXAMPLE: Final = """
swarmtop backup                                     of this machine's collector, to swarm-20261123T140000Z.db
swarmtop backup --db /var/lib/swarmtop/swarm.db /mnt/backup/swarm.db
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="FILE", nargs="?", help="file to write (default: swarm-TIME.db in this folder)"
    )
    parser.add_argument(
        "--db", metavar="FILE", help="database to copy (default: that of the collector on this machine)"
    )


def run(args: argparse.Namespace) -> int:
    from swarm_storage.errors import StoreError
    from swarm_storage.sqlite.backup import backup

    if args.db is not None and args.db.startswith(("postgresql://", "postgres://")):
        raise CommandError("a PostgreSQL store is backed up with pg_dump; backup copies SQLite files")
    source = Path(args.db) if args.db is not None else _store_here()
    target = Path(args.target) if args.target is not None else Path(default_name(time.time_ns()))
    try:
        with progress(f"copying {safe(str(source))}"):
            size_bytes = backup(source, target)
    except StoreError as error:
        raise CommandError(safe(str(error), limit=500)) from error
    print(f"{safe(str(target))}: {size_bytes / 1e6:.1f} MB", file=sys.stderr)
    return DONE


def default_name(now_ns: int) -> str:
    stamp = iso_utc(now_ns)[:19].replace("-", "").replace(":", "")
    return f"swarm-{stamp}Z.db"


def _store_here() -> Path:
    """Return the store of swarm-collector, else of a dashboard's own collector."""
    state = default_state_dir()
    for path in (state / "swarm.db", state / "local" / "swarm.db"):
        if path.exists():
            return path
    raise CommandError(f"there is no store in {safe(str(state))}; name it with --db FILE")
