"""The one registry of keys: whatever footer, help and palette show is bound, and whatever is bound is explained."""

from __future__ import annotations

import subprocess
import sys

import dash_fakes as fakes
import pytest

from swarmtop.dashboard import keymap
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.lines.header_footer import footer
from swarmtop.dashboard.lines.help_lines import help_lines
from swarmtop.dashboard.screens.page import Page


def text(block: list[tuple[tuple[str, str], ...]]) -> str:
    return "\n".join("".join(part for part, _ in row) for row in block)


@pytest.mark.parametrize("screen", keymap.SCREENS)
def test_no_key_means_two_things_on_a_screen(screen: keymap.Screen) -> None:
    keys = [key for action in keymap.for_screen(screen, recording=True) for key in action.keys]
    assert sorted(keys) == sorted(set(keys))


def test_every_action_says_what_it_does_in_one_sentence() -> None:
    for action in keymap.ACTIONS:
        assert action.label, action
        assert action.help[0].isupper(), action
        assert not action.help.endswith("."), action
        assert action.keys, action


def test_names_are_unique() -> None:
    assert len(keymap.BY_NAME) == len(keymap.ACTIONS)


async def test_every_action_has_a_handler_on_each_of_its_screens() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options())
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        for name in keymap.SCREENS:
            page = app.page(name)
            assert isinstance(page, Page)
            for action in keymap.for_screen(name, recording=True):
                assert hasattr(page, f"action_{action.name}") or hasattr(app, f"action_{action.name}"), (name, action)


@pytest.mark.parametrize("screen", keymap.SCREENS)
def test_help_lists_every_key_of_the_screen(screen: keymap.Screen) -> None:
    shown = keymap.for_screen(screen, recording=True)
    said = text(help_lines(screen, shown))
    for action in shown:
        assert action.help in said
        assert keymap.shown(action.keys[0]) in said


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("screen", keymap.SCREENS)
def test_footer_always_names_help_and_quit(screen: keymap.Screen, width: int) -> None:
    said = text([footer(keymap.for_screen(screen, recording=False), screen, width)])
    assert len(said) == width
    assert "? help" in said
    assert "q quit" in said


def test_replay_keys_are_offered_only_where_there_is_a_past() -> None:
    live = {a.name for a in keymap.for_screen("time", recording=False)}
    past = {a.name for a in keymap.for_screen("time", recording=True)}
    assert past - live == {
        "step",
        "step_back",
        "jump",
        "jump_back",
        "go_to",
        "slower",
        "faster",
        "latest",
        "next_event",
        "previous_event",
    }


def test_own_key_takes_the_place_of_the_registrys() -> None:
    mine = {a.name: a for a in keymap.keymap({"quit": "Q"})}
    assert mine["quit"].keys == ("Q",)
    assert mine["help"].keys == keymap.BY_NAME["help"].keys


def test_own_key_that_is_taken_is_refused_with_both_names() -> None:
    with pytest.raises(keymap.KeymapError, match="the key q would be sort and quit on overview"):
        keymap.keymap({"sort": "q"})


def test_own_key_of_an_unknown_action_is_refused() -> None:
    with pytest.raises(keymap.KeymapError, match="no action fly to give the key x"):
        keymap.keymap({"fly": "x"})


async def test_rebound_key_works_and_the_old_one_does_not() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options(keys={"go_links": "Q"}))
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("3")
        assert app.screen.name == "overview"
        await pilot.press("Q")
        assert app.screen.name == "links"


def test_everything_but_the_shell_and_the_widgets_is_free_of_textual() -> None:
    """`--once` draws with the models, and the command line builds the options: neither pays for Textual."""
    headless = [
        "options",
        "keymap",
        "session",
        "planner.thread",
        "planner.planner",
        "terminal.restore",
        "lines.help_lines",
        "lines.placement.placement_lines",
        "lines.timeline_lines",
    ]
    code = "; ".join(f"import swarmtop.dashboard.{name}" for name in headless)
    code += "; import sys; print(sorted(m for m in sys.modules if m.split('.')[0] == 'textual'))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
