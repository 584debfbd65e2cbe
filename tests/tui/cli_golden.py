"""Reviewed output of commands, which must not change. UPDATE_GOLDENS=1 writes it again."""

from __future__ import annotations

import os
from pathlib import Path

from swarm_predict.types import Breakdown, Prediction, Quantiles, Stage, StageCost
from swarm_protocol.units import BYTES_PER_GIB

# Made by hand, so that how an answer reads does not change with how well it is predicted.
PREDICTION = Prediction(
    model="llama-3.1-8b",
    weights="fp16",
    engine="chain",
    client="home",
    placement=(Stage("attic-3090", 0, 21), Stage("lab-a4000", 22, 31)),
    fits=True,
    tpot_ms=Quantiles(mean=65.5, p5=63.1, p50=64.7, p95=67.9),
    tokens_per_s=Quantiles(mean=15.3, p5=14.7, p50=15.46, p95=15.8),
    throughput_tokens_per_s=15.3,
    ttft_ms=Quantiles(mean=95.0, p5=88.0, p50=93.5, p95=115.2),
    breakdown_ms=Breakdown(compute=23.0, network=38.7, overhead=1.1, head=2.7),
    stages=(
        StageCost("attic-3090", 22, 12.3, 14.9, 9.94 * BYTES_PER_GIB, 12.6 * BYTES_PER_GIB),
        StageCost("lab-a4000", 10, 10.7, 8.91, 5.05 * BYTES_PER_GIB, 9.95 * BYTES_PER_GIB),
    ),
    limited_by="rtt",
    notes=(
        "layer time of lab-a4000 is a best case from memory bandwidth (roofline): no layer was measured there, so the "
        "answer is too",
        "some uploads are lower bounds (≥)",
    ),
)

GOLDENS = Path(__file__).parent / "goldens" / "cli"


def golden(name: str, text: str) -> None:
    path = GOLDENS / name
    if os.environ.get("UPDATE_GOLDENS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{name} reads differently; if it should, run with UPDATE_GOLDENS=1"
