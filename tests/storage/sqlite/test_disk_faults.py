"""The store under failing disks: what was acknowledged stays, what was not is refused with a reason, and it recovers.

Disks are real ones here: a small tmpfs in a mount namespace of its own (root only), or a limit on the file's size.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
from sample_fixtures import T0, A, batch, event, link

from swarm_storage.errors import Full, Locked, OutOfOrder, QueueFull, StoreError
from swarm_storage.sqlite.connect import connect_writer
from swarm_storage.sqlite.sqlite_backend import SqliteBackend
from swarm_storage.store import open_store
from swarm_storage.writer import writer as writer_module
from swarm_storage.writer.transaction import Transaction


def may_mount() -> bool:
    """Whether this machine gives a mount namespace: not to everybody, and not where the root is no mount (chroot)."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


NAMESPACES = pytest.mark.skipif(
    not may_mount(), reason="needs root and a mount namespace (unshare -m), for a small file system of its own"
)


def in_child(code: str, *before: str) -> list[str]:
    """Return the lines that `code` printed, run after the shell commands `before` in a mount namespace of its own."""
    source = "from sample_fixtures import *\nfrom swarm_storage.store import open_store\n" + textwrap.dedent(code)
    command = [sys.executable, "-c", source]
    if before:
        command = ["unshare", "-m", "sh", "-c", " && ".join([*before, 'exec "$@"']), "sh", *command]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


FILL = """
    def fill(writer, made_of=200):
        seq = 0
        while True:
            seq += 1
            try:
                writer.submit(batch(seq, [link(T0 + seq * 1000 + i) for i in range(made_of)])).result(20)
            except Exception as error:
                return seq, error
"""


@NAMESPACES
def test_a_full_disk_loses_nothing_acknowledged_and_writing_goes_on_when_there_is_room(tmp_path: Path):
    lines = in_child(
        FILL
        + f"""
    import os, pathlib, time
    folder = pathlib.Path({str(tmp_path)!r})
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    store = open_store(str(folder / "swarm.db"))
    writer = store.writer()
    seq, error = fill(writer)
    print(type(error).__name__, str(error))
    print(seq > 1, store.reader.committed_seq(A, 7) == seq - 1, len(list(store.reader.samples())) == 200 * (seq - 1))
    ballast.unlink()
    while writer.trouble is not None:
        try:
            writer.submit(batch(seq, [link()])).result(20)
        except Exception:
            time.sleep(0.05)
    print(store.reader.committed_seq(A, 7) == seq, writer.close())
    """,
        f"mount -t tmpfs -o size=4m none {tmp_path}",
    )
    assert lines[0].startswith("Full no space left for ")
    assert lines[1:] == ["True True True", "True []"]


def test_a_file_that_may_grow_no_further_loses_nothing_acknowledged():
    """The same without root: the limit makes write(2) fail with EFBIG."""
    lines = in_child(
        FILL
        + """
    import os, resource, tempfile
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, resource.RLIM_INFINITY))
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder + "/swarm.db")
        writer = store.writer()
        seq, error = fill(writer)
        print(type(error).__name__, store.reader.committed_seq(A, 7) == seq - 1)
        print(len(list(store.reader.samples())) == 200 * (seq - 1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.close()
        store = open_store(folder + "/swarm.db")
        print(store.writer().submit(batch(seq, [link()])).result(20) == seq)
        store.close()
    """
    )
    assert lines == ["Full True", "True", "True"]


@NAMESPACES
def test_a_read_only_folder_can_be_read_and_is_refused_for_writing(tmp_path: Path):
    store = open_store(str(tmp_path / "swarm.db"))
    store.writer().submit(batch(1, [event()])).result(20)
    store.close()
    (tmp_path / "swarm.db.lock").unlink()
    lines = in_child(
        f"""
    path = {str(tmp_path / "swarm.db")!r}
    try:
        open_store(path)
    except Exception as error:
        print(type(error).__name__, error)
    store = open_store(path, read_only=True)
    print(len(store.reader.events()))
    """,
        f"mount --bind {tmp_path} {tmp_path}",
        f"mount -o remount,bind,ro {tmp_path}",
    )
    assert lines == [
        f"ReadOnly cannot write {tmp_path}/swarm.db (Read-only file system); make the file and its folder writable",
        "1",
    ]


def test_a_file_locked_by_another_program_is_reported_and_the_next_batch_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("swarm_storage.sqlite.connect.BUSY_MS", 10)
    monkeypatch.setattr(writer_module, "RETRY_S", (0.0, 0.0))
    path = tmp_path / "swarm.db"
    store = open_store(str(path))
    stray = connect_writer(path)  # stands for another program
    stray.execute("BEGIN IMMEDIATE")
    writer = store.writer()
    with pytest.raises(Locked, match="is locked by another program"):
        writer.submit(batch(1, [event()])).result(20)
    assert isinstance(writer.trouble, Locked)
    stray.execute("COMMIT")
    stray.close()
    assert writer.submit(batch(1, [event()])).result(20) == 1
    assert writer.trouble is None
    store.close()


def test_while_the_store_is_in_trouble_batches_are_refused_at_once_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """No queue builds up behind a disk that takes nothing, and each epoch goes on from its first refused batch."""
    monkeypatch.setattr(writer_module, "RETRY_S", (3600.0, 3600.0))
    store = open_store(str(tmp_path / "swarm.db"))
    writer = store.writer()

    def full(_: Transaction, __: object) -> int:
        raise Full("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "batch", full)
        with pytest.raises(Full):
            writer.submit(batch(1, [event()])).result(20)
    with pytest.raises(Full, match="no space left"):
        writer.submit(batch(4, [event()], node_id="b" * 16))
    assert isinstance(writer.trouble, Full)
    writer._retry_at = 0.0  # the pause is over
    with pytest.raises(OutOfOrder):
        writer.submit(batch(5, [event()], node_id="b" * 16))
    with pytest.raises(OutOfOrder):
        writer.submit(batch(2, [event()]))
    assert writer.submit(batch(4, [event()], node_id="b" * 16)).result(20) == 4
    assert writer.submit(batch(1, [event()])).result(20) == 1
    assert writer.trouble is None
    store.close()


class Gate:
    """Holds the writer's thread inside a transaction until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()
        flush = Transaction.flush

        def held(transaction: Transaction) -> None:
            self.entered.set()
            assert self._open.wait(20)
            flush(transaction)

        monkeypatch.setattr(Transaction, "flush", held)

    def open(self) -> None:
        self._open.set()


def test_a_full_queue_refuses_and_nothing_behind_the_refused_batch_is_taken_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else the acknowledgement of a later batch would cover one that was never stored."""
    monkeypatch.setattr(writer_module, "QUEUE_SAMPLES", 2)
    gate = Gate(monkeypatch)
    store = open_store(str(tmp_path / "swarm.db"))
    writer = writer_module.Writer(SqliteBackend(store.path, store._lock), queue_samples=2)  # type: ignore[arg-type]
    first = writer.submit(batch(1, [event()]))
    assert gate.entered.wait(20)
    second = writer.submit(batch(2, [event(T0 + 1), event(T0 + 2)]))
    with pytest.raises(QueueFull, match=r"2 samples wait to be written to .*; send it again later"):
        writer.submit(batch(3, [event(T0 + 3)]))
    gate.open()
    assert (first.result(20), second.result(20)) == (1, 2)
    with pytest.raises(OutOfOrder, match=f"batch 4 of {A} came before the refused 3; send 3 first"):
        writer.submit(batch(4, [event(T0 + 4)]))
    assert writer.submit(batch(3, [event(T0 + 3)])).result(20) == 3
    assert writer.submit(batch(4, [event(T0 + 4)])).result(20) == 4
    assert len(store.reader.events()) == 5
    writer.close()
    store.reader.close()


def test_a_new_session_may_go_on_behind_a_refused_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The probe's spool was full and dropped the refused batch: it must not be waited for."""
    gate = Gate(monkeypatch)
    store = open_store(str(tmp_path / "swarm.db"))
    writer = writer_module.Writer(SqliteBackend(store.path, store._lock), queue_samples=1)  # type: ignore[arg-type]
    writer.submit(batch(1, [event()]))
    assert gate.entered.wait(20)
    second = writer.submit(batch(2, [event(T0 + 1)]))
    with pytest.raises(QueueFull):
        writer.submit(batch(3, [event(T0 + 2)]))
    gate.open()
    assert second.result(20) == 2
    writer.resume(A, 7)
    with_gap: Future[int] = writer.submit(batch(9, [event(T0 + 9)]))
    assert with_gap.result(20) == 9
    writer.close()
    store.reader.close()


def test_one_bad_batch_fails_alone_and_holds_back_only_its_own_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = open_store(str(tmp_path / "swarm.db"))
    writer = store.writer()
    wrong = link(rtt_p50_ms=object())  # past every gate: a mistake of ours
    futures = [
        writer.submit(batch(1, [event()], node_id="b" * 16)),
        writer.submit(batch(1, [event()])),
        writer.submit(batch(2, [wrong])),
        writer.submit(batch(3, [event(T0 + 3)])),
        writer.submit(batch(2, [event(T0 + 1)], node_id="b" * 16)),
    ]
    outcome = [future.exception(20) for future in futures]
    assert [type(each) for each in outcome] == [type(None), type(None), StoreError, OutOfOrder, type(None)]
    assert store.reader.committed_seq(A, 7) == 1
    assert store.reader.committed_seq("b" * 16, 7) == 2
    assert writer.submit(batch(2, [event(T0 + 2)])).result(20) == 2
    store.close()


def test_closing_while_the_disk_takes_nothing_says_what_was_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    gate = Gate(monkeypatch)
    store = open_store(str(tmp_path / "swarm.db"))
    writer = store.writer()
    writer.submit(batch(1, [event()])).add_done_callback(lambda _: None)
    assert gate.entered.wait(20)
    late = writer.submit(batch(2, [event(T0 + 1)]))

    def full(_: Transaction, __: object) -> int:
        raise Full("no space left")

    monkeypatch.setattr(Transaction, "batch", full)
    gate.open()
    assert [each.seq for each in writer.close()] == [2]
    with pytest.raises(Full):
        late.result(0)
    assert store.reader.committed_seq(A, 7) == 1
    store.close()
