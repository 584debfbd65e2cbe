"""The first page is written once, as soon as it has been laid out, and whatever version of Textual there is."""

from __future__ import annotations

from typing import Any

import pytest
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.errors import NoWidget
from textual.geometry import Region

from swarmtop.dashboard.terminal.first_write import FirstWrite

SCREEN = LayoutUpdate([], Region(0, 0, 80, 24))
PART = ChopsUpdate([], [], [])


class Laid:
    """A screen whose widget has a place after so many looks. Timers fire at once."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.done: list[str] = []

    def find_widget(self, _: object) -> None:
        self.looks -= 1
        if self.looks >= 0:
            raise NoWidget

    def set_timer(self, _: float, then: Any) -> None:
        self.done.append("wait")
        then()

    def refresh(self) -> None:
        self.done.append("refresh")


class Updated(Laid):
    def _on_timer_update(self) -> None:
        self.done.append("update")


@pytest.mark.parametrize(
    ("screen", "done"),
    [
        (Updated(2), ["update", "wait", "update", "wait", "refresh", "update"]),
        (Laid(2), ["wait", "wait", "refresh"]),
        (Updated(0), ["refresh", "update"]),
    ],
    ids=["updates are made at once", "a Textual without the method", "laid out already"],
)
def test_nothing_is_written_before_the_whole_first_page(screen: Any, done: list[str]) -> None:
    first = FirstWrite()
    assert not first.begins(SCREEN)
    first.filled(screen, screen)
    assert screen.done == done
    assert [first.begins(each) for each in (PART, SCREEN, PART)] == [False, True, True]
