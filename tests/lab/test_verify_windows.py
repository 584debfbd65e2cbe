"""The account of verify windows in flight, against the chances that predictions are made with."""

from __future__ import annotations

import pytest

from swarm_lab.engine.config import Draft
from swarm_lab.engine.verify_windows import WindowAccount
from swarm_predict.cost.speculative import outcomes, step_yield
from swarm_predict.types import Workload


def test_windows_behind_a_miss_are_stale_and_the_next_begins_behind_the_correction():
    account = WindowAccount(Draft(guesses=4, accept=(0.0,), ms=0.0, windows=3), position=10)
    first, second, third = account.send(), account.send(), account.send()
    assert [window.position for window in (first, second, third)] == [10, 14, 18]
    assert not account.may_send
    assert account.verified(first.number) == 1  # nothing was right: the correction alone
    assert account.send().position == 11
    assert account.verified(second.number) == account.verified(third.number) == 0
    assert (account.tokens, account.lost, account.in_flight) == (1, 2, 1)


def test_windows_that_are_all_right_continue():
    account = WindowAccount(Draft(guesses=4, accept=(1.0,), ms=0.0, windows=2), position=0)
    for number in range(1, 6):
        window = account.send()
        assert window.position == 4 * (number - 1)
        assert account.verified(window.number) == 4
    assert account.epoch == 0


def test_a_window_alone_that_is_all_right_yields_one_more():
    account = WindowAccount(Draft(guesses=4, accept=(1.0,), ms=0.0), position=0)
    assert account.verified(account.send().number) == 5
    assert account.send().position == 5


@pytest.mark.parametrize("accept", [(0.7,), (0.9, 0.5, 0.8)])
def test_yields_are_on_average_those_of_the_prediction(accept):
    """20,000 windows: a mean of about three tokens is known within a percent."""
    load = Workload(draft_tokens=3, draft_accept=accept[0], draft_profile=accept if len(accept) > 1 else ())

    def mean(windows: int) -> float:
        account = WindowAccount(Draft(guesses=3, accept=accept, ms=0.0, windows=windows, seed=1), position=0)
        for _ in range(20_000):
            account.verified(account.send().number)
        return account.tokens / 20_000

    assert mean(1) == pytest.approx(step_yield(load), rel=0.015)
    assert mean(4) == pytest.approx(outcomes(load).tokens_a_window, rel=0.015)
