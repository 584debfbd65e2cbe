"""Other programs open the database while it is written to: what was acknowledged is in the file after kill -9.

The writer is a process of its own under load. Beside it, clients that know nothing of the collector come and go:
Python's sqlite3 and the sqlite3 program, reading, writing, and asking for exclusive access. A client that closes last
removes the write-ahead log, unless the locks of the process that writes say otherwise.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from writing_process import WAIT_S, held, writing

SQLITE3 = shutil.which("sqlite3")
ROUNDS = 12  # of a client, before the writer is killed
CLIENTS = {
    "reads": "SELECT count(*) FROM link_sample",
    "writes": "INSERT OR REPLACE INTO setting (key, value) VALUES ('theirs', strftime('%f'))",
    "checkpoints": "PRAGMA wal_checkpoint(TRUNCATE)",
    "transaction of its own": "BEGIN EXCLUSIVE; SELECT count(*) FROM setting; COMMIT",
    "exclusive": "PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; SELECT count(*) FROM setting; COMMIT",
    "another journal": "PRAGMA journal_mode = DELETE",
}
PYTHON_CLIENT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0.2, isolation_level=None)
try:
    for statement in sys.argv[2].split("; "):
        connection.execute(statement).fetchall()
except sqlite3.OperationalError as error:
    print(error)
connection.close()
"""


@pytest.mark.parametrize(
    "program", ["python", pytest.param("sqlite3", marks=pytest.mark.skipif(not SQLITE3, reason="no sqlite3"))]
)
@pytest.mark.parametrize("does", CLIENTS)
def test_nothing_acknowledged_is_lost_beside_another_program(does: str, program: str, tmp_path: Path):
    path = tmp_path / "swarm.db"
    python = [sys.executable, "-c", PYTHON_CLIENT, str(path), CLIENTS[does]]
    shell = [str(SQLITE3), "-cmd", ".timeout 200", str(path), CLIENTS[does]]
    with writing(path) as writer:
        for _ in range(ROUNDS):
            subprocess.run(python if program == "python" else shell, capture_output=True, timeout=WAIT_S, check=False)
            writer.wait_for(writer.acknowledged + 2)
        log = path.with_name("swarm.db-wal").stat().st_ino
        acknowledged = writer.kill()
        assert path.with_name("swarm.db-wal").stat().st_ino == log  # nobody has removed it
    assert held(path) >= acknowledged > 2 * ROUNDS
