"""Start an async method as a Textual worker.

A coroutine that was made for a worker whose task is cancelled before its first step, as when somebody quits at that
moment, is never awaited, and Python prints a warning on the terminal that was just restored. So the worker gets the
method and its arguments, and makes the coroutine itself.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVarTuple, cast

if TYPE_CHECKING:
    from textual.dom import DOMNode
    from textual.worker import WorkType

Arguments = TypeVarTuple("Arguments")


def start(
    node: DOMNode,
    work: Callable[[*Arguments], Coroutine[Any, Any, None]],
    *arguments: *Arguments,
    name: str = "",
    group: str = "default",
    exclusive: bool = False,
) -> None:
    """Run `work(*arguments)` in the background for as long as `node` exists. `exclusive`: end its former workers of
    this group. An error in it ends the dashboard."""
    waiting = [lambda: work(*arguments)]

    async def run() -> None:
        # Textual's worker lives until garbage is collected, and would keep a frame of a large swarm until then
        await waiting.pop()()

    # the cast chooses one member of Textual's union, of which mypy infers none
    node.run_worker(cast("WorkType[None]", run), name=name, group=group, exclusive=exclusive)
