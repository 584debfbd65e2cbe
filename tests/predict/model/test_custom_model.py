"""A model of an unknown family, entered as figures: what is counted, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from swarm_predict.cost.engines import ENGINES
from swarm_predict.cost.machine.memory import needs
from swarm_predict.model.catalogue import model_named
from swarm_predict.model.custom_model import from_table
from swarm_predict.model.shapes import block_bytes
from swarm_predict.types import PredictError, UnknownModel, Workload
from swarm_protocol.swarm_files.swarm_file import SwarmFileError, parse_model

NODE = '[[node]]\nname = "a"\n'


def table(**changes: object) -> str:
    given: dict[str, object] = {
        "layers": 40, "layer_bytes": 4.5e8, "kv_bytes_per_token": 163_840, "hidden": 4096, "vocab": 65_000, **changes
    }  # fmt: skip
    lines = (f"{key} = {value!r}".replace("'", '"').replace("True", "true") for key, value in given.items())
    return f"{NODE}[model]\n" + "\n".join(lines)


def model(**changes: object):
    found = parse_model(table(**changes))
    assert found is not None
    return from_table(found)


def test_figures_are_taken_as_they_are():
    found = model(name="odd-9b")
    assert (found.name, found.layers, found.hidden, found.vocab) == ("odd-9b", 40, 4096, 65_000)
    assert found.stage_bytes(0, 9, "fp16") == 10 * 4.5e8
    assert found.stage_cache_bytes(0, 39, 1000) == pytest.approx(163_840 * 1000)
    assert found.hop_bytes(1, "fp16") == 8192
    assert found.head_bytes("fp16") == 65_000 * 4096 * 2
    assert found.layer_bytes("q8_0") == pytest.approx(4.5e8 * 8.5 / 16)


def test_layers_may_differ_and_experts_sleep():
    found = model(layers=3, layer_bytes=[1e8, 2e8, 3e8], weights="q4_k_m")
    assert [found.stage_bytes(i, i, "q4_k_m") for i in range(3)] == [1e8, 2e8, 3e8]
    routed = model(layer_bytes=1e9, experts=10, experts_active=1, expert_bytes=9e7)
    assert routed.weights_touched("fp16", 1) == pytest.approx(1e8 + 9e7)


def test_a_window_and_a_state_stop_growing():
    found = model(window=1000, state_bytes=4e6)
    assert found.stage_cache_bytes(0, 39, 50_000) == pytest.approx(163_840 * 1000 + 4e6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_bytes": [1e8]}, "has layer_bytes for 1 layers, and layers = 40"),
        ({"experts": 4}, "experts need experts_active"),
        ({"experts": 4, "experts_active": 5, "expert_bytes": 1e3}, "experts need experts_active"),
        ({"weights": "fp12"}, "weights 'fp12' is not a known format"),
    ],
)
def test_contradictions_are_refused(changes, said):
    with pytest.raises(PredictError, match=said):
        model(**changes)


@pytest.mark.parametrize("changes", [{"layers": 0}, {"hidden": -1}, {"layer_bytes": 0}, {"lairs": 3}])
def test_what_is_no_figure_is_refused(changes):
    with pytest.raises(SwarmFileError):
        parse_model(table(**changes))


def test_a_file_without_the_table_has_no_model():
    assert parse_model(NODE) is None


def test_capacity_counts_layers_where_they_lie():
    """Nemotron 3 Nano: a third of its layers hold nearly all of it, so more fit in a row than of the largest kind."""
    shape = model_named("nemotron-3-nano-30b-a3b")
    found = needs(shape, Workload(weights="fp16", context=1000), ENGINES["chain"])
    room = found.scratch_bytes + 20e9
    count = int(found.capacity(np.array([room]), 0.0)[0])
    whole = [found.model.stage_bytes(i, i + count - 1, "fp16") for i in range(shape.layers - count + 1)]
    assert max(whole) <= 20e9
    assert max(shape.stage_bytes(i, i + count, "fp16") for i in range(shape.layers - count)) > 19.9e9
    assert count > 20e9 / max(block_bytes(block, "fp16") for block in shape.kinds) * 1.5


def test_state_is_kept_by_every_sequence():
    shape = model_named("qwen3-next-80b-a3b")
    alone = needs(shape, Workload(context=1000, prompt=1), ENGINES["chain"]).stage_bytes(0, 47)
    two = needs(shape, Workload(context=1000, prompt=1, streams=2), ENGINES["chain"]).stage_bytes(0, 47)
    assert two - alone == pytest.approx(shape.stage_cache_bytes(0, 47, 1000))


def test_unknown_models_name_the_way_out():
    with pytest.raises(UnknownModel, match=r"enter the shape by hand: \[model\] in a swarm file, docs/swarm-file\.md"):
        model_named("nobody/knows-this")
