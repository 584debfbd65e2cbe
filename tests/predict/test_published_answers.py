"""docs/claims/published.toml: predictions of published setups do not get worse."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.predicting.published import answer, error, rows

pytestmark = pytest.mark.priors  # as a person asks
ROOT = Path(__file__).parents[2]
SLACK_PERCENT = 2.0  # of drawn quantiles, and of a later fit


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_the_answer_is_no_further_off_and_the_interval_holds_what_was_published(row, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SWARMTOP_HOME", str(tmp_path / "home"))
    found = answer(row)
    assert abs(100 * error(row, found)) <= abs(row.error_percent) + SLACK_PERCENT
    assert found.holds(row.tokens_per_s) or row.outside


def test_few_results_lie_outside_and_each_says_why():
    outside = [row.outside for row in rows() if row.outside]
    assert len(rows()) >= 43
    assert len(outside) <= 3
