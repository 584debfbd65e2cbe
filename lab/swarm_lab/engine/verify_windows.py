"""Track verify windows in flight: what each yields, which are stale, where the next one begins. Pure.

A window contains the last known token and K guesses. A seeded rng decides which guesses are right, instead of a draft
model; the stages compute every window in any case. With several in flight the next one continues from the guesses of
the one before, and yields count as in `swarm_predict.cost.speculative`: K tokens if all are right (its successor has
the next one), else the right ones and a correction, and all windows behind it are discarded. With one window in flight,
a window yields one token more if all are right.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from swarm_lab.engine.config import Draft


@dataclass(frozen=True, slots=True)
class Window:
    number: int
    position: int  # tokens in the cache before it
    epoch: int  # misses known when it was drafted


class WindowAccount:
    def __init__(self, draft: Draft, position: int) -> None:
        self._draft = draft
        self._rng = random.Random(draft.seed)
        self._windows: dict[int, Window] = {}
        self._next = position
        self._sent = 0
        self.epoch = 0  # misses so far: what was drafted before the last one continues wrong guesses
        self.tokens = 0  # of valid windows
        self.lost = 0  # stale windows

    @property
    def in_flight(self) -> int:
        return len(self._windows)

    @property
    def may_send(self) -> bool:
        return self.in_flight < self._draft.windows

    def send(self) -> Window:
        """Return the next window, which continues from the guesses of the one before."""
        self._sent += 1
        window = Window(self._sent, self._next, self.epoch)
        self._windows[window.number] = window
        self._next += self._draft.guesses
        return window

    def verified(self, number: int) -> int:
        """Return the tokens that a window yields; 0: it is stale."""
        window = self._windows.pop(number)
        if window.epoch != self.epoch:
            self.lost += 1
            return 0
        right = 0
        while right < self._draft.guesses and self._rng.random() < self._accept(right):
            right += 1
        alone = self._draft.windows == 1
        continues = right == self._draft.guesses and not alone
        tokens = right if continues else right + 1
        if not continues:
            self.epoch += 1
            self._next = window.position + tokens
        self.tokens += tokens
        return tokens

    def _accept(self, guess: int) -> float:
        given = self._draft.accept
        return given[min(guess, len(given) - 1)]
