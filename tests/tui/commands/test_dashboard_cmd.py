"""Claims about `swarmtop` itself: which source its dashboard shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from swarmtop import cli
from swarmtop.dashboard import run as dashboard
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.local import embedded
from swarmtop.sources.source import Source

GARAGE = Path(__file__).parents[3] / "examples" / "garage.toml"


@pytest.mark.parametrize(
    ("words", "title"),
    [(["--nodes", "4090@Utrecht fiber, 3090@Berlin cable"], "--nodes"), (["--swarm", str(GARAGE)], "garage.toml")],
)
def test_machines_of_a_file_or_by_name_are_shown_and_no_collector_is_started(
    words: list[str], title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`swarmtop --nodes …` showed this machine, on a collector of its own."""
    shown: list[Source] = []

    def show(source: Source, _options: DashboardOptions) -> int:
        shown.append(source)
        return 0

    monkeypatch.setattr(dashboard, "run_dashboard", show)
    monkeypatch.setattr(embedded, "home", lambda *_: pytest.fail("a collector was started"))
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert cli.main(words) == 0
    assert [source.title for source in shown] == [title]
