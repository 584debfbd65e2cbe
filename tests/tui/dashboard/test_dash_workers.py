"""Work in the background that is cancelled before it began leaves nothing on the terminal."""

from __future__ import annotations

import gc
import warnings
import weakref
from pathlib import Path

import pytest
from textual.app import App

import swarmtop.dashboard
from swarmtop.dashboard import workers


@pytest.mark.parametrize("cancelled", [True, False])
async def test_work_cancelled_before_its_first_step_warns_of_no_coroutine(cancelled: bool) -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        done.append(number)

    app: App[None] = App()
    async with app.run_test() as pilot:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            workers.start(app, work, 7)
            if cancelled:
                app.workers.cancel_all()
            await pilot.pause()
            gc.collect()
    assert done == ([] if cancelled else [7])
    assert [str(each.message) for each in said] == []


class Large:
    """Takes much memory, and long to be written out, as a frame does."""

    def __repr__(self) -> str:
        raise AssertionError("written out")


async def test_arguments_are_neither_written_out_nor_kept_when_the_work_is_done() -> None:
    kept: list[weakref.ref[Large]] = []

    async def work(argument: Large) -> None:
        kept.append(weakref.ref(argument))

    app: App[None] = App()
    async with app.run_test() as pilot:
        gc.disable()
        try:
            workers.start(app, work, Large())
            await pilot.pause()
            assert [each() for each in kept] == [None]
        finally:
            gc.enable()


def test_every_worker_is_started_so() -> None:
    sources = {path: path.read_text("utf-8") for path in Path(swarmtop.dashboard.__file__).parent.rglob("*.py")}
    assert [path.name for path, text in sources.items() if ".run_worker(" in text] == ["workers.py"]
