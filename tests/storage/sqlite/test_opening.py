"""What can be opened and what is refused, each with one line that says what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sample_fixtures import T0, A, batch, event, link, one_of_each

from swarm_storage.errors import (
    Closed,
    Corrupt,
    Locked,
    Missing,
    NewerVersion,
    NotADatabase,
    OlderVersion,
    ReadOnly,
    StoreError,
)
from swarm_storage.sqlite.schema import VERSION
from swarm_storage.store import open_store


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A file with one sample of each kind, closed."""
    path = tmp_path / "swarm.db"
    store = open_store(str(path))
    store.writer().submit(batch(1, one_of_each()))
    store.close()
    return path


@pytest.mark.parametrize("form", ["{path}", "sqlite:///{path}"])
def test_a_plain_path_and_a_url_name_the_same_file(form: str, recorded: Path):
    store = open_store(form.format(path=recorded), read_only=True)
    assert store.path == recorded
    store.close()


def test_three_slashes_are_relative_to_here(recorded: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(recorded.parent)
    store = open_store("sqlite:///swarm.db", read_only=True)
    assert store.path == Path("swarm.db")
    store.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://h/db", "mysql:// is no store; give sqlite:///FILE or postgresql://HOST/DATABASE"),
        ("sqlite://swarm.db", "sqlite://swarm.db names no file; give sqlite:///FILE, or sqlite:////FILE from the root"),
        ("", "an empty path is no store; give sqlite:///FILE"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str, said: str):
    with pytest.raises(StoreError) as refused:
        open_store(url)
    assert str(refused.value).startswith(said)


def test_a_file_that_is_not_there_is_refused_for_reading_and_not_made(tmp_path: Path):
    with pytest.raises(Missing, match=r"there is no .*x\.db; check the path, or record one with swarm-collector"):
        open_store(str(tmp_path / "x.db"), read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(Missing, match=r"there is no folder .*nowhere; make it, or give another --store"):
        open_store(str(tmp_path / "nowhere" / "x.db"))


@pytest.mark.parametrize("read_only", [True, False])
def test_another_kind_of_file_is_refused_and_left_alone(read_only: bool, tmp_path: Path):
    letter = tmp_path / "letter.txt"
    letter.write_text("dear reader, this is long enough to be read as a header")
    with pytest.raises(NotADatabase, match=r"letter\.txt is not an SQLite database; give another file"):
        open_store(str(letter), read_only=read_only)
    assert [each.name for each in tmp_path.iterdir()] == ["letter.txt"]
    assert letter.read_text().startswith("dear reader")


@pytest.mark.parametrize("read_only", [True, False])
def test_another_programs_database_is_refused_and_left_alone(read_only: bool, tmp_path: Path):
    path = tmp_path / "music.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE album (title)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(NotADatabase, match=r"music\.db is an SQLite database of another program; give another file"):
        open_store(str(path), read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [True, False])
def test_a_newer_version_is_refused_and_left_alone(read_only: bool, recorded: Path):
    later = sqlite3.connect(recorded)
    later.execute("PRAGMA user_version = 99")
    later.close()
    before = recorded.read_bytes()
    with pytest.raises(NewerVersion) as refused:
        open_store(str(recorded), read_only=read_only)
    assert str(refused.value) == (
        f"{recorded} is of schema version 99, this swarmtop knows up to {VERSION}; upgrade swarmtop"
    )
    assert recorded.read_bytes() == before


def test_an_older_version_cannot_be_read_before_it_was_brought_up_to_date(recorded: Path):
    earlier = sqlite3.connect(recorded)
    earlier.execute("PRAGMA user_version = 0")
    earlier.close()
    with pytest.raises(OlderVersion, match=rf"is of schema version 0, .* reads {VERSION}; open it once"):
        open_store(str(recorded), read_only=True)


def test_a_second_writer_is_refused_with_the_process_that_has_it(tmp_path: Path):
    path = tmp_path / "swarm.db"
    store = open_store(str(path))
    code = f"from swarm_storage.store import open_store\nopen_store({str(path)!r})"
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    said = second.stderr.strip().splitlines()[-1].removeprefix("swarm_storage.errors.Locked: ")
    assert said == f"{path} is being written by process {os.getpid()}; stop it, or connect to it instead"
    with pytest.raises(Locked):
        open_store(str(path))
    store.close()
    open_store(str(path)).close()


def test_reading_continues_while_another_process_writes(recorded: Path):
    store = open_store(str(recorded))
    writer = store.writer()
    other = open_store(str(recorded), read_only=True)
    writer.submit(batch(2, [event(T0 + 50)])).result(20)
    assert len(other.reader.events()) == 2
    other.close()
    store.close()


def test_a_reader_neither_writes_nor_folds_the_log_even_when_closed_last(recorded: Path):
    """What the argument in `connect` against the WAL-reset race stands on."""
    log = recorded.with_name("swarm.db-wal")
    code = (
        "import os\nfrom sample_fixtures import *\nfrom swarm_storage.store import open_store\n"
        f"open_store({str(recorded)!r}).writer().submit(batch(2, [link(T0 + 9)])).result(20)\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True, cwd=Path(__file__).parents[1])
    before = recorded.read_bytes(), log.read_bytes()
    assert before[1]
    store = open_store(str(recorded), read_only=True)
    with pytest.raises(StoreError):
        store.reader.query("DELETE FROM link_sample")
    with pytest.raises(StoreError):
        store.reader.query("PRAGMA wal_checkpoint(TRUNCATE)")
    assert link(T0 + 9) in [sample for _, sample in store.reader.samples()]
    store.close()
    assert (recorded.read_bytes(), log.read_bytes()) == before


def test_a_store_opened_for_reading_has_no_writer(recorded: Path):
    store = open_store(str(recorded), read_only=True)
    with pytest.raises(ReadOnly, match="was opened for reading"):
        store.writer()
    store.close()
    with pytest.raises(Closed):
        store.reader.span()


def test_a_damaged_file_is_reported_with_the_way_out(recorded: Path):
    data = bytearray(recorded.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    recorded.write_bytes(data)
    with pytest.raises(
        Corrupt, match=r"swarm\.db is damaged \(.*\); stop the collector and put a copy made by `swarmtop"
    ):
        open_store(str(recorded), read_only=True)


def test_facts_that_cannot_be_read_cost_the_facts_and_are_reported_once(
    recorded: Path, caplog: pytest.LogCaptureFixture
):
    damaged = sqlite3.connect(recorded)
    damaged.execute("UPDATE node SET facts = '{}' WHERE member")
    damaged.commit()
    damaged.close()
    store = open_store(str(recorded), read_only=True)
    assert [row.facts for _ in range(2) for row in store.reader.nodes()] == [None, None]
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        f"the hardware facts of {A} cannot be read (Object missing required field `system`)"
    ]
    store.close()
