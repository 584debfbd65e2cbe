"""Claims about documentation: every command shown exists with those options, and what can run here runs.

What needs a running collector, a volunteer's machine, root or minutes is held to its parser; what reads a file of the
repository is run from its root, as a reader would run it. A command that fits neither list fails the test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documented_commands import PAGES, ROOT, Shown, shown

from swarm_collector.options import options
from swarm_probe.arguments import probe_parser
from swarmtop import cli
from swarmtop.commands import COMMANDS as COMMANDS_OF_OURS
from swarmtop.option_types import joined_times

PROGRAMS = ("swarmtop", "swarm-probe", "swarm-collector")
SHELL = (
    "make", "pip", "pipx", "uv", "python", "git", "cd", "curl", "systemctl", "podman", "docker", "mkdocs", "datasette",
    "sqlite3", "sudo", "source", "export", "createdb", "install", "journalctl", "cat",
    "nvidia-smi", "irtt", "iperf3", "ping", "mtr", "amd-smi", "rocm-smi",
)  # fmt: skip
COMMANDS = list(shown())
OURS = [command for command in COMMANDS if any(word in PROGRAMS for word in command.words[:4])]
RUNNABLE = [
    c
    for c in OURS
    if c.words[0] == "swarmtop"
    and ({"--swarm", "--nodes"} & set(c.words) or c.words[1] == "import")
    and "://" not in c.text
]


def program(words: list[str]) -> tuple[str, list[str]]:
    """The program and its arguments, without variables before it and whatever takes its output."""
    at = next(i for i, word in enumerate(words) if word in PROGRAMS)
    rest = words[at + 1 :]
    for i, word in enumerate(rest):
        if word in ("|", ">", ">>", "&&", "&", ";"):
            rest = rest[:i]
            break
    return words[at], rest


def test_there_are_pages_and_commands() -> None:
    assert len(PAGES) > 10
    assert len(OURS) > 40
    assert len(RUNNABLE) > 15


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_line_of_a_shell_block_is_a_command_we_know(command: Shown) -> None:
    words = [word for word in command.words if not re.fullmatch(r"[A-Z_]+=.*", word)]
    assert words
    assert words[0] in (*PROGRAMS, *SHELL), f"{command}: neither ours nor one that is taken on trust"


@pytest.mark.parametrize("command", OURS, ids=str)
def test_every_command_of_ours_has_the_options_that_are_shown(
    command: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, words = program(command.words)
    if "--help" in words:
        return
    if name == "swarmtop":
        words = joined_times(words)
        chosen = next((c for c in COMMANDS_OF_OURS if words and c.name == words[0]), None)
        parser = cli.command_parser(chosen) if chosen is not None else cli.top_parser()
        parser.parse_args(words[1:] if chosen is not None else words)
    elif name == "swarm-probe":
        if "--join" in words:  # the others are words of their own, tried in tests/probe
            probe_parser().parse_args(words)
    else:
        options([word for word in words if word != "--config" and not word.endswith(".toml")], {})


@pytest.mark.parametrize("command", RUNNABLE, ids=str)
def test_what_reads_a_file_of_the_repository_runs(
    command: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("examples", "docs", "tests"):
        os.symlink(ROOT / folder, tmp_path / folder)
    _, words = program(command.words)
    if not (
        {"predict", "plan", "calibrate", "check", "report", "import", "alert"} & set(words[:1]) or "--once" in words
    ):
        return  # the dashboard: its own tests start it
    code = cli.main(words)
    out, err = capsys.readouterr()
    assert code in ((0, 4) if words[0] in ("check",) else (0,)), err
    assert out or err


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_every_make_target_that_is_shown_exists() -> None:
    for command in COMMANDS:
        if command.words[0] == "make":
            targets = [word for word in command.words[1:] if "=" not in word]
            found = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, timeout=30)
            assert found.returncode == 0, f"{command}: {found.stderr}"


def test_benchmarks_that_are_named_exist() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "bench"], cwd=ROOT, capture_output=True, text=True, timeout=60
    ).stdout
    for page in PAGES:
        for name in re.findall(r"`(?:python -m )?bench ([a-z_]+)", page.read_text("utf-8")):
            assert name == "all" or name in listed, f"{page.name} names bench {name}, which is not listed"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}, which is not there"
