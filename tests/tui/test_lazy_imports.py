"""Claims about what is not imported: commands without a screen start without Textual, and --help without numpy.

Each in a fresh interpreter, by `sys.modules` after the command has run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from swarm_storage.store import open_store

EXAMPLES = Path(__file__).parents[2] / "examples"
SWARM = ["--swarm", str(EXAMPLES / "garage.toml")]
HEAVY = ("textual", "aiohttp", "torch", "rich", "sqlite_utils")

PROGRAM = """
import sys
from swarmtop.cli import main
code = main(sys.argv[1:])
print("modules:", " ".join(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMTOP_HOME", str(tmp_path))


def modules_after(*words: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rsplit("modules: ", 1)[1].split())


@pytest.mark.parametrize("command", [[], ["predict"], ["plan"], ["export"], ["check"], ["invite"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    assert modules_after(*command, "--help").isdisjoint(HEAVY)


def test_the_top_help_does_without_numpy_and_asyncio() -> None:
    assert modules_after("--help").isdisjoint(("numpy", "asyncio"))


@pytest.mark.parametrize(
    "words",
    [
        ["--once", *SWARM],
        ["--once", "--json", *SWARM],
        ["plan", *SWARM],
        ["predict", *SWARM, "--placement", "attic-3090:0-31"],
        ["check", *SWARM, "--rule", "rtt_p50_ms<500"],
    ],
)
def test_commands_without_a_screen_never_import_one(words: list[str]) -> None:
    assert modules_after(*words).isdisjoint(HEAVY)


def test_export_never_imports_a_screen_or_a_server(tmp_path: Path) -> None:
    open_store(str(tmp_path / "swarm.db")).close()
    loaded = modules_after("export", "--db", str(tmp_path / "swarm.db"), "--kind", "link")
    assert loaded.isdisjoint(("textual", "aiohttp", "torch", "rich"))


FIRST_PAINT = """
import asyncio, sys
import swarmtop.cli, swarmtop.commands.dashboard, swarmtop.dashboard.run, swarmtop.dashboard.screens.overview
from swarmtop.parsed_options import open_source
from swarmtop.dashboard.lines.overview.member_list import screen
args = swarmtop.cli.top_parser().parse_args(sys.argv[1:])
source = open_source(args, for_screen=True)
lines = screen(asyncio.run(source.members()), "file", (), "gain", 140, 37)
print("modules:", " ".join(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr)
sys.exit(0 if lines else 1)
"""


@pytest.mark.parametrize("kind", ["swarm file", "database"])
def test_members_are_drawn_without_numpy(kind: str, tmp_path: Path) -> None:
    """It takes a fifth of the time of a bare Textual app; the dashboard loads it behind its first paint."""
    open_store(str(tmp_path / "swarm.db")).close()
    words = SWARM if kind == "swarm file" else ["--db", str(tmp_path / "swarm.db")]
    done = subprocess.run([sys.executable, "-c", FIRST_PAINT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.rsplit("modules: ", 1)[1].split())
    assert "textual" in loaded
    assert "numpy" not in loaded


def test_a_live_source_is_imported_without_numpy() -> None:
    """The dashboard says what it waits for before numpy is imported, which takes longer than the collector's answer."""
    program = "import sys, swarmtop.sources.live; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
