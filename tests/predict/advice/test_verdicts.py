"""Verdicts for a workload: their limits, what they say without a known first token, labelled baselines."""

from __future__ import annotations

import dataclasses
import math

import pytest

from swarm_predict.advice.verdicts import BASELINES, verdicts
from swarm_predict.types import Breakdown, Prediction, Quantiles

NAN = float("nan")


def found(tpot_ms: tuple[float, float], ttft_ms: tuple[float, float], total: float = 1.0) -> Prediction:
    """(median, p95) of both; the fast end does not matter here."""
    p50, p95 = tpot_ms
    tpot = Quantiles(p50, p50, p50, p95)
    return Prediction(
        "m", "fp16", "chain", None, (), True, tpot, Quantiles(1e3 / p50, 1e3 / p95, 1e3 / p50, 1e3 / p50), total,
        Quantiles(ttft_ms[0], ttft_ms[0], *ttft_ms), Breakdown(p50, 0, 0, 0), (), "compute", (),
    )  # fmt: skip


def levels(prediction: Prediction) -> dict[str, str]:
    return {verdict.workload: verdict.level for verdict in verdicts(prediction)}


@pytest.mark.parametrize(
    ("tpot", "ttft", "level"),
    [
        ((100, 199), (500, 1900), "good"),
        ((100, 201), (500, 1900), "usable"),  # the slow twentieth is below reading speed
        ((100, 150), (500, 2100), "usable"),
        ((201, 210), (500, 1900), "slow"),
        ((100, 150), (10_100, 20_000), "slow"),
        ((1001, 1100), (500, 1900), "no"),
        ((100, 150), (NAN, NAN), "unknown"),
        ((300, 350), (NAN, NAN), "slow"),
    ],
)
def test_chat_must_be_read_as_it_comes(tpot, ttft, level):
    assert levels(found(tpot, ttft))["chat"] == level


@pytest.mark.parametrize(
    ("tpot", "ttft", "level"),
    [
        ((20, 22), (300, 400), "good"),
        ((40, 60), (300, 400), "usable"),
        ((130, 150), (600, 700), "slow"),
        ((500, 600), (600, 700), "no"),
        ((20, 22), (NAN, NAN), "unknown"),
        ((600, 700), (NAN, NAN), "no"),  # too slow whatever the first token takes
    ],
)
def test_a_suggestion_must_come_while_the_thought_lasts(tpot, ttft, level):
    assert levels(found(tpot, ttft))["completion"] == level


@pytest.mark.parametrize(("total", "level"), [(11.6, "good"), (11.5, "usable"), (1.6, "slow"), (0.3, "no")])
def test_a_million_tokens_take_a_day_a_week_a_month_or_too_long(total, level):
    assert levels(found((100, 110), (500, 600), total))["batch"] == level


def test_the_batch_verdict_says_how_many_requests_were_counted():
    one, many = (verdicts(found((100, 110), (500, 600), 5.0), streams)[2].why for streams in (1, 12))
    assert "one request in flight" in one
    assert "12 requests in flight" in many


def test_more_speed_never_earns_a_worse_verdict():
    rank = {"no": 0, "slow": 1, "unknown": 2, "usable": 3, "good": 4}
    before = None
    for tpot in (2000.0, 900.0, 400.0, 180.0, 80.0, 30.0, 10.0):
        now = {k: rank[v] for k, v in levels(found((tpot, tpot * 1.1), (tpot * 3, tpot * 4), 1e3 / tpot)).items()}
        assert before is None or all(now[k] >= before[k] for k in now)
        before = now


def test_every_baseline_says_whose_figure_it_is():
    for row in BASELINES:
        assert row.source
        assert row.tokens_per_s or row.total_tokens_per_s
        assert not any(isinstance(v, float) and math.isnan(v) for v in dataclasses.astuple(row))
