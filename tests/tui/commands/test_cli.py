"""Claims about `swarmtop` as a program: which command is meant, exit codes, and one line for whatever goes wrong."""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from swarmtop import cli
from swarmtop.commands import COMMANDS, Command
from swarmtop.progress import progress
from swarmtop.text.ascii_text import SIGNS, plain_locale, readable

GARAGE = Path(__file__).parents[3] / "examples" / "garage.toml"
Outcome = tuple[int, str, str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Logs and state of these tests stay here; no setting of the person who runs them counts."""
    monkeypatch.setenv("SWARMTOP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SWARMTOP_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> object:
    def call(*words: str) -> Outcome:
        code = cli.main(words)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_every_command_shows_its_options_and_an_example(run) -> None:  # type: ignore[no-untyped-def]
    for words in ([], *([command.name] for command in COMMANDS)):
        code, out, err = run(*words, "--help")
        assert (code, err) == (0, "")
        assert re.search(rf"example:\n  swarmtop {' '.join(words)}", out)
        assert "TODO" not in out


def test_the_top_help_lists_every_command(run) -> None:  # type: ignore[no-untyped-def]
    _, out, _ = run("--help")
    assert [
        line.split()[0] for line in out.split("commands (each has --help):\n")[1].split("\n\n")[0].splitlines()
    ] == [command.name for command in COMMANDS]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["plam"], "swarmtop: there is no command 'plam'; did you mean plan?"),
        (
            ["zzz"],
            f"swarmtop: there is no command 'zzz'; there are {', '.join(command.name for command in COMMANDS)}",
        ),
        (["--json"], "swarmtop: --json goes with --once; see swarmtop --help"),
        (["--stream"], "swarmtop: --stream goes with --once; see swarmtop --help"),
        (
            ["--once", "--json", "--csv"],
            "swarmtop: argument --csv: not allowed with argument --json; see swarmtop --help",
        ),
        (
            ["--once", "--connect", "ftp://x:1"],
            "swarmtop: argument --connect: ftp://x:1 is neither HOST:PORT nor a ws:// or wss:// URL; leave out ftp://; "
            "see swarmtop --help",
        ),
        (
            ["plan", "--batch", "0"],
            "swarmtop plan: argument --batch: takes 1 to 65536 (0 is outside); see swarmtop plan --help",
        ),
        (
            ["predict", "--swarm", "x.toml"],
            "swarmtop predict: the following arguments are required: --placement; see swarmtop predict --help",
        ),
        (
            ["--once", "--swarm", "no.toml"],
            "swarmtop: cannot read no.toml (No such file or directory); correct --swarm",
        ),
        (["--once", "--at", "-1h"], "swarmtop: --at stands in the past of a database; give it with --db FILE"),
        (
            ["--listen", "0.0.0.0", "--db", "x.db"],
            "swarmtop: the dashboard needs a terminal; --once prints the ranking without one",
        ),
        (["--once", "--bogus"], "swarmtop: unrecognized arguments: --bogus; see swarmtop --help"),
        ([], "swarmtop: the dashboard needs a terminal; --once prints the ranking without one"),
        (
            ["export", "--db", "x.db", "--csv", "-"],
            "swarmtop: a pipe takes one kind: add --kind link|uplink|compute|host|event|hop|roofline|run, "
            "or give a folder: --csv DIR/",
        ),
    ],
)
def test_unusable_arguments_are_one_line_that_says_what_to_do(words: list[str], complaint: str, run) -> None:  # type: ignore[no-untyped-def]
    assert run(*words) == (2, "", complaint + "\n")


def test_a_collector_that_is_not_there_is_exit_3(run) -> None:  # type: ignore[no-untyped-def]
    code, out, err = run("--once", "--connect", "127.0.0.1:1")
    assert (code, out) == (3, "")
    assert err == "swarmtop: cannot reach 127.0.0.1:1 (refused); start swarm-collector there or correct --connect\n"


def pretended(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    """A command `pretend` that does `run`."""
    module = ModuleType("pretended_command")
    module.EXAMPLE = "swarmtop pretend"  # type: ignore[attr-defined]
    module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pretended_command", module)
    monkeypatch.setattr(cli, "COMMANDS", (*COMMANDS, Command("pretend", "pretended_command", "pretends")))


def test_a_bug_leaves_its_traceback_in_the_log_and_one_line_on_the_screen(
    run,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise RuntimeError("impossible\nindeed")

    pretended(monkeypatch, fail)
    assert run("pretend") == (
        1,
        "",
        f"swarmtop: internal error (RuntimeError: impossible); please report it with {home / 'swarmtop.log'}\n",
    )
    assert "Traceback (most recent call last)" in (home / "swarmtop.log").read_text()


def test_a_bug_without_a_place_for_the_log_shows_the_traceback_instead(
    run,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise RuntimeError("impossible")

    home.write_text("a file where the folder should be")
    pretended(monkeypatch, fail)
    code, _, err = run("pretend")
    assert code == 1
    assert "Traceback (most recent call last)" in err
    assert "no log could be written" in err.splitlines()[-1]


def test_ctrl_c_is_exit_130_and_says_nothing(run, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def interrupted(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    pretended(monkeypatch, interrupted)
    assert run("pretend") == (130, "", "")


def test_a_reader_that_goes_away_ends_the_command_in_silence() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [sys.executable, "-m", "swarmtop", "plan", "--help"], stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.close(writing)
        _, err = process.communicate()
    assert (process.returncode, err) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--help"], "q4_k_m, ..."),
        (["plan", "--swarm", str(GARAGE)], " ... "),
        (["--once", "--swarm", str(GARAGE)], " ... "),
    ],
)
def test_an_output_that_cannot_hold_the_signs_gets_ascii_that_reads(
    encoding: str, words: list[str], shown: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "swarmtop", *words],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    out = done.stdout.decode(encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert shown in out
    assert "?" not in out
    assert out.isascii() or encoding == "latin-1"


def test_signs_are_written_so_that_they_still_say_the_same() -> None:
    assert readable("≥38.0 → 40 … −3 × 2 · ▲ │ Zürich ±1") == ">=38.0 -> 40 ... -3 x 2 . ^ | Zurich +/-1"
    assert readable("机") == "?"
    assert all(readable(sign).isascii() and "?" not in readable(sign) for sign in SIGNS)


@pytest.mark.parametrize(
    ("environment", "plain"),
    [
        ({}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),  # as Python leaves it behind
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, False),
        ({"LANG": "C.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, True),
        ({"LANG": "C", "LC_ALL": "en_US.UTF-8"}, False),
        ({"LANG": "C", "PYTHONIOENCODING": "utf-8"}, False),
    ],
)
def test_the_c_locale_counts_where_somebody_asked_for_it(environment: dict[str, str], plain: bool) -> None:
    assert plain_locale(environment) is plain


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_silent_where_nobody_looks_and_wipes_itself_where_somebody_does() -> None:
    pipe, screen = io.StringIO(), Terminal()
    with progress("planning", pipe, quiet_s=0.0):
        pass
    with progress("planning", screen, quiet_s=0.0):
        while "planning … 0 s" not in screen.getvalue():
            pass
    assert pipe.getvalue() == ""
    assert screen.getvalue().endswith("\r\x1b[K")
