"""Power fails at any moment, the disk keeps what was synced and as much of the rest as it likes: nothing acknowledged
is lost, nothing is there by half."""

from __future__ import annotations

import ctypes.util
import json
import pickle
import random
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from power_loss import Sync, files_after

from swarm_storage.store import open_store

MOMENTS = 60
A_BATCH = 5

pytestmark = pytest.mark.skipif(
    ctypes.util.find_library("sqlite3") is None, reason="Python's SQLite is not a shared library here"
)

RECORDED = """
    import json, pickle, sys
    from power_loss import Recorder
    from sample_fixtures import *
    from swarm_storage.sqlite import sqlite_backend as backend_module
    from swarm_storage.writer import writer as writer_module
    recorder = Recorder()
    from swarm_storage.store import open_store
    writer_module.TIDY_EVERY_S = backend_module.TIDY_EVERY_S = 0.0
    backend_module.WAL_IDLE_BYTES = 1 << 16  # folds the log now and then
    store = open_store(sys.argv[1])
    writer = store.writer(retain_ns=None)
    opened, acknowledged = len(recorder.ops), []
    for seq in range(1, 41):
        writer.submit(batch(seq, [link(T0 + 1000 * seq + i) for i in range(5)])).result(20)
        acknowledged.append(len(recorder.ops))
    store.close()
    with open(sys.argv[2], "wb") as file:
        pickle.dump((recorder.ops, opened, acknowledged), file)
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory):
    """(operations, how many had been done when the store was open, and when each batch was acknowledged)."""
    folder = tmp_path_factory.mktemp("recorded")
    command = [sys.executable, "-c", textwrap.dedent(RECORDED), str(folder / "swarm.db"), str(folder / "ops")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
    return pickle.loads((folder / "ops").read_bytes())


def test_the_recording_is_of_real_writing(recording):
    """An empty one would prove nothing: there are syncs of both files, and the log was folded meanwhile."""
    ops, opened, acknowledged = recording
    assert acknowledged == sorted(acknowledged)
    names = [op.name for op in ops[opened : acknowledged[-1]] if isinstance(op, Sync)]
    assert names.count("swarm.db-wal") >= 40
    assert "swarm.db" in names


@pytest.mark.parametrize("kept_share", [0.0, 0.5, 1.0])
def test_what_was_acknowledged_is_there_after_power_failed_at_any_moment(recording, tmp_path: Path, kept_share: float):
    ops, opened, acknowledged = recording
    rng = random.Random(json.dumps(kept_share))
    for moment in rng.sample(range(opened, len(ops) + 1), MOMENTS):
        folder = tmp_path / str(moment)
        folder.mkdir()
        for name, data in files_after(ops, moment, rng, kept_share).items():
            (folder / name).write_bytes(data)
        store = open_store(str(folder / "swarm.db"))
        promised = sum(at <= moment for at in acknowledged)
        held = store.reader.committed_seq("a" * 16, 7)
        assert held >= promised
        assert len(list(store.reader.samples())) == A_BATCH * held
        store.close()
        with sqlite3.connect(folder / "swarm.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


def test_without_waiting_for_the_disk_the_same_power_loss_would_lose_batches(recording):
    """The check can fail: dropping the syncs from the recording loses what was acknowledged."""
    ops, _, acknowledged = recording
    unsynced = [op for op in ops[: acknowledged[-1]] if not isinstance(op, Sync)]
    assert files_after(unsynced, len(unsynced), random.Random(1), 0.0) == {}
