"""A copy is consistent, complete, and never blocks the writer."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sample_fixtures import T0, A, B, batch, event, link, one_of_each

from swarm_storage.errors import Missing, NotADatabase, StoreError
from swarm_storage.sqlite import backup as backup_module
from swarm_storage.sqlite.backup import backup
from swarm_storage.store import open_store
from swarm_storage.store_base import Store


@pytest.fixture
def store(tmp_path: Path):
    opened = open_store(str(tmp_path / "swarm.db"))
    yield opened
    opened.close()


def held(path: Path) -> list[object]:
    copy = open_store(str(path), read_only=True)
    samples = [sample for _, sample in copy.reader.samples()]
    copy.close()
    return samples


def test_a_copy_has_what_was_committed_and_is_one_file(store: Store, tmp_path: Path):
    store.writer(retain_ns=None).submit(batch(1, one_of_each())).result(20)
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()
    assert backup(store.path, target) == target.stat().st_size
    assert held(target) == list(one_of_each())
    assert [path.name for path in target.parent.iterdir()] == ["copy.db"]


def test_a_copy_made_while_batches_come_ends_at_a_commit_and_holds_nobody_up(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each batch has two samples: a copy with an odd number has torn one apart."""
    monkeypatch.setattr(backup_module, "STEP_PAGES", 1)
    writer = store.writer(retain_ns=None)
    seq = 0

    def more(_: float) -> None:
        nonlocal seq
        seq += 1
        pair = [link(T0 + seq, B), link(T0 + seq, "c" * 16)]
        assert writer.submit(batch(seq, pair)).result(20) == seq  # while the copy is under way

    for _ in range(50):
        more(0.0)
    backup(store.path, tmp_path / "copy.db", more)
    assert seq > 55
    assert len(held(tmp_path / "copy.db")) == 100
    assert len(list(store.reader.samples())) == 2 * seq


def test_a_copy_can_go_on_being_written(store: Store, tmp_path: Path):
    store.writer(retain_ns=None).submit(batch(3, [event()])).result(20)
    backup(store.path, tmp_path / "copy.db")
    copy = open_store(str(tmp_path / "copy.db"))
    assert copy.reader.committed_seq(A, 7) == 3
    assert copy.writer(retain_ns=None).submit(batch(4, [event(T0 + 1)])).result(20) == 4
    copy.close()


def test_nothing_is_overwritten_and_an_abandoned_copy_leaves_nothing(store: Store, tmp_path: Path):
    there = tmp_path / "there.db"
    there.write_text("mine")
    with pytest.raises(StoreError, match=r"there\.db exists already; give another file, or remove it"):
        backup(store.path, there)
    assert there.read_text() == "mine"

    def given_up(_: float) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "copies"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        backup(store.path, folder / "copy.db", given_up)
    assert list(folder.iterdir()) == []


def test_what_comes_meanwhile_under_the_name_of_the_copy_stays(store: Store, tmp_path: Path):
    target = tmp_path / "copy.db"
    came = threading.Event()

    def meanwhile(_: float) -> None:
        if not came.is_set():
            came.set()
            target.write_text("mine")

    with pytest.raises(StoreError, match="exists already"):
        backup(store.path, target, meanwhile)
    assert target.read_text() == "mine"


def test_what_cannot_be_copied_is_one_line(tmp_path: Path):
    with pytest.raises(Missing):
        backup(tmp_path / "none.db", tmp_path / "copy.db")
    (tmp_path / "letter").write_text("dear " * 10)
    with pytest.raises(NotADatabase):
        backup(tmp_path / "letter", tmp_path / "copy.db")
    open_store(str(tmp_path / "swarm.db")).close()
    with pytest.raises(Missing):
        backup(tmp_path / "swarm.db", tmp_path / "no-folder" / "copy.db")
