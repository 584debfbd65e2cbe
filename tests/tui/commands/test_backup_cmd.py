"""`swarmtop backup`: where the copy goes, what it says, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm_storage.store import open_store
from swarmtop import cli
from swarmtop.commands.data.backup import default_name


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWARMTOP_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_arguments_the_store_of_this_machine_is_copied_here(home: Path, capsys: pytest.CaptureFixture[str]):
    open_store(str(home / "swarm.db")).close()
    assert cli.main(["backup"]) == 0
    (copy,) = home.glob("swarm-*Z.db")
    assert capsys.readouterr().err == f"{copy.name}: {copy.stat().st_size / 1e6:.1f} MB\n"
    open_store(str(copy), read_only=True).close()


def test_a_target_that_is_there_is_one_line_and_exit_2(home: Path, capsys: pytest.CaptureFixture[str]):
    open_store(str(home / "swarm.db")).close()
    (home / "copy.db").write_text("mine")
    assert cli.main(["backup", "copy.db"]) == 2
    assert "copy.db exists already; give another file, or remove it" in capsys.readouterr().err


def test_no_store_here_says_how_to_name_one(home: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["backup"]) == 2
    assert capsys.readouterr().err.endswith(f"there is no store in {home}; name it with --db FILE\n")


def test_a_store_on_a_server_is_backed_up_with_the_servers_own_tool(capsys: pytest.CaptureFixture[str]):
    """It was looked for as a file, `postgresql:/swarm@…`, and a password in it was printed."""
    assert cli.main(["backup", "--db", "postgresql://swarm:hush@db.example/swarm", "copy.db"]) == 2
    said = capsys.readouterr().err
    assert "pg_dump" in said
    assert "hush" not in said


def test_the_name_says_when():
    assert default_name(1_790_000_100 * 10**9) == "swarm-20260921T141500Z.db"
