"""Claims about who needs no token: the user who has started the collector on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from swarm_protocol.messages.operator_messages import OPERATOR_FILE, Operator
from swarmtop import cli, parsed_options
from swarmtop.cli import top_parser
from swarmtop.local.own_collector import operator_on
from swarmtop.parsed_options import open_source
from swarmtop.sources.live import LiveSource


def left_by(folder: Path, port: int, secret: str, age_s: int) -> Operator:
    folder.mkdir(parents=True, exist_ok=True)
    operator = Operator(host="0.0.0.0", port=port, pin="", secret=secret)
    (folder / OPERATOR_FILE).write_bytes(msgspec.json.encode(operator))
    os.utime(folder / OPERATOR_FILE, (1e9 - age_s, 1e9 - age_s))
    return operator


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWARMTOP_HOME", str(tmp_path))
    return tmp_path


def test_the_collector_that_was_started_last_on_that_port_counts(home: Path) -> None:
    left_by(home, 9470, "of one that ended", age_s=60)
    newest = left_by(home / "local", 9470, "of `swarmtop --listen`", age_s=1)
    assert operator_on(9470) == newest
    assert operator_on(9471) is None


def test_another_machine_is_never_told_the_secret(home: Path) -> None:
    left_by(home, 9470, "secret", age_s=1)
    elsewhere = open_source(top_parser().parse_args(["--once", "--connect", "203.0.113.7:9470"]))
    assert isinstance(elsewhere, LiveSource)
    assert elsewhere._introduction().operator == ""


def test_commands_take_what_the_operator_may_read_in_place_of_a_token(home: Path) -> None:
    """`swarmtop --listen` makes a token up and shows it nowhere: `--once` beside it was told to ask the operator."""
    left_by(home / "local", 9470, "mine", age_s=1)
    source = open_source(top_parser().parse_args(["--once"]))
    assert isinstance(source, LiveSource)
    assert source._introduction().operator == "mine"
    left_by(home / "local", 9470, "of the next start", age_s=0)  # a collector that was killed and restarted
    assert source._introduction().operator == "of the next start"


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ([], "start swarmtop or swarm-collector here, or give --connect, --db, --swarm or --nodes"),
        (["--connect", "127.0.0.1:1"], "start swarm-collector there or correct --connect"),
    ],
)
def test_a_command_without_a_source_is_told_of_the_sources(
    words: list[str], advice: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`swarmtop plan` alone was told to correct an option that nobody had given."""
    monkeypatch.setattr(parsed_options, "DEFAULT_PORT", 1)
    assert cli.main(["plan", *words]) == 3
    assert capsys.readouterr().err == f"swarmtop: cannot reach 127.0.0.1:1 (refused); {advice}\n"
