"""A real PostgreSQL from the distribution's packages, in a folder of its own, for one test session.

`server()` yields how to reach it, or skips with the reason: no package, or root without the user postgres (PostgreSQL
refuses to run as root).
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SUPERUSER = "swarm"


def programs() -> Path:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [shutil.which("initdb") or ""]
    if not found[-1]:
        pytest.skip("needs PostgreSQL's server programs: apt-get install postgresql")
    return Path(found[-1]).parent


def _demoted() -> dict[str, Any]:
    """For subprocess: PostgreSQL does not run as root. Nobody else may set groups, not even to none."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("needs the user postgres, since PostgreSQL does not run as root: apt-get install postgresql")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def server(*, durable: bool = False) -> Iterator[str]:
    """`postgresql://…/` without the name of a database. Ended whatever happens."""
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'swarmtop[postgresql]'")
    bin_, as_whom = programs(), _demoted()
    with tempfile.TemporaryDirectory(prefix="swarmtop-pg-") as name:
        folder = Path(name)
        if as_whom:
            os.chown(folder, as_whom["user"], as_whom["group"])

        def run(*command: str) -> None:
            subprocess.run(command, check=True, cwd=folder, capture_output=True, timeout=60, **as_whom)

        run(str(bin_ / "initdb"), "-D", "data", "-A", "trust", "-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync")
        fsync = "" if durable else "-c fsync=off -c full_page_writes=off"
        options = f"-k {folder} -c listen_addresses='' -c max_connections=60 {fsync}"
        run(str(bin_ / "pg_ctl"), "-D", "data", "-o", options, "-l", "log", "-w", "start")
        try:
            yield f"postgresql://{SUPERUSER}@/{{}}?host={folder}"
        finally:
            run(str(bin_ / "pg_ctl"), "-D", "data", "-m", "immediate", "-w", "stop")
