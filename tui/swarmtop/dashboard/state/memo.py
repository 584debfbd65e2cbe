"""Cache the newest result of a function: consecutive frames share what has not changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class Remembered(Generic[A, B]):
    """Call `work` only for another object than last time; only identity is compared."""

    def __init__(self, work: Callable[[A], B]) -> None:
        self._work = work
        self._last: tuple[A, B] | None = None

    def __call__(self, argument: A) -> B:
        last = self._last  # a single read: threads may call this too
        if last is None or last[0] is not argument:
            last = self._last = (argument, self._work(argument))
        return last[1]


class Newest:
    """The newest block of lines for the same arguments: what is drawn of a plan is drawn once, and not at every tick.

    Numbers and texts are compared, all else by its identity, and kept meanwhile, so that none is taken for another.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[tuple[object, ...], object]] = {}

    def __call__(self, name: str, of: tuple[object, ...], make: Callable[[], B]) -> B:
        last = self._last.get(name)
        if last is None or not _alike(last[0], of):
            last = self._last[name] = (of, make())
        return last[1]  # type: ignore[return-value]  # of this name, `make` always gives the same kind


def _alike(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return len(one) == len(other) and all(
        a is b or (isinstance(a, int | float | str) and a == b) for a, b in zip(one, other, strict=True)
    )
