"""What is timed and what fits: pure arithmetic."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.compute.timing.timing_points import (
    NARROWEST,
    Point,
    Room,
    fitting,
    narrowed,
    needed,
    points_of,
    scale,
    work_of,
)
from swarm_probe.machine.conditions import LASTS_S, REST_S, Conditions, ConditionWatch
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.messages.probe_messages import ComputeTask

LLAMA = LayerShape(architecture="llama", hidden=8192, intermediate=28672, heads=64, kv_heads=8, head_dim=128)
MIXTRAL = msgspec.structs.replace(LLAMA, architecture="mixtral", experts=8, experts_active=2, intermediate=14336)
DEEPSEEK = LayerShape(
    architecture="deepseek", hidden=7168, intermediate=2048, heads=128, kv_heads=128, head_dim=128, kv_lora_rank=512,
    q_lora_rank=1536, rope_head_dim=64, v_head_dim=128, experts=256, experts_active=8, shared_experts=1,
)  # fmt: skip
DECODE = Point("decode", 1, 128)


def room(limit_bytes: int) -> Room:
    return Room(limit_bytes, 32 << 20, 2, 2.0)


def test_one_stream_and_its_prompt_come_first_and_the_ends_of_the_model_last() -> None:
    task = ComputeTask(
        task_id=1, model="m", layer=LLAMA, dtype="fp16", batches=(1, 8), contexts=(2048, 128), prefill_tokens=(128, 32),
        vocab=1000,
    )  # fmt: skip
    points = points_of(task)
    assert points[:2] == [DECODE, Point("prefill", 1, 32)]
    assert [p.phase for p in points] == [
        "decode",
        "prefill",
        *["decode"] * 3,
        "prefill",
        "head",
        "head",
        "embed",
        "embed",
    ]
    assert [p.phase for p in points_of(msgspec.structs.replace(task, vocab=0))].count("head") == 0


def test_absurd_points_of_a_collector_are_left_out() -> None:
    task = ComputeTask(
        task_id=1, model="m", layer=LLAMA, dtype="fp16", batches=(0, -1, 1 << 40), contexts=(128,), prefill_tokens=(0,)
    )
    assert points_of(task) == []


@pytest.mark.parametrize("shape", [LLAMA, MIXTRAL, DEEPSEEK], ids=["llama", "mixtral", "deepseek"])
@pytest.mark.parametrize("gib", [64, 2, 1])
def test_what_fits_is_the_layer_itself_or_a_part_that_fits(shape: LayerShape, gib: int) -> None:
    found = fitting(shape, DECODE, room(gib << 30))
    assert found is not None
    need = needed(found, DECODE, room(gib << 30))
    assert need.fit >= need.fewest
    assert found == shape or found.params < shape.params
    assert found.hidden == shape.hidden
    assert found.heads % found.kv_heads == 0
    assert found.experts_active == shape.experts_active


def test_nothing_fits_into_nothing() -> None:
    assert fitting(LLAMA, DECODE, room(1 << 20)) is None


@given(st.sampled_from([LLAMA, MIXTRAL, DEEPSEEK]), st.sampled_from([2, 4, 8, 16, 32, NARROWEST]),
       st.sampled_from([DECODE, Point("decode", 8, 4096), Point("prefill", 1, 512)]))  # fmt: skip
def test_a_part_is_scaled_by_what_it_lacks(shape: LayerShape, pieces: int, point: Point) -> None:
    part = narrowed(shape, pieces)
    factor = scale(shape, part, point, room(1 << 40), 1000.0, 1e9)  # nothing but bytes counts
    assert factor == pytest.approx(work_of(shape, point, room(0))[0] / work_of(part, point, room(0))[0])
    assert factor >= 1.0


def test_a_mixture_that_is_cut_keeps_the_work_of_a_token() -> None:
    """Experts go first: a token goes through as many as before."""
    part = narrowed(DEEPSEEK, 8)
    assert (part.experts, part.experts_active, part.intermediate) == (32, 8, 2048)


def test_quantised_weights_take_their_own_room() -> None:
    half = needed(LLAMA, DECODE, room(8 << 30))
    quarter = needed(LLAMA, DECODE, Room(8 << 30, 32 << 20, 2, 0.5))
    assert quarter.fit > 2 * half.fit


CALM = Conditions((("RTX 3090", "580.1", 350.0, False),), None, "2.13")
HOT = Conditions((("RTX 3090", "580.1", 350.0, True),), None, "2.13")


def test_a_change_that_lasts_has_layers_timed_again_but_not_all_day() -> None:
    watch = ConditionWatch()
    assert not watch.look(CALM, 0.0)
    watch.measured(1.0)
    assert not watch.look(HOT, REST_S + 2)
    assert not watch.look(HOT, REST_S + 1 + LASTS_S)
    assert watch.look(HOT, REST_S + 3 + LASTS_S)
    watch.measured(REST_S + 4 + LASTS_S)
    assert not watch.look(HOT, 9 * REST_S)
    assert not watch.look(CALM, 9 * REST_S + 1)
    assert watch.look(CALM, 9 * REST_S + 2 + LASTS_S)


def test_a_burst_of_throttling_changes_nothing() -> None:
    watch = ConditionWatch()
    watch.look(CALM, 0.0)
    watch.measured(1.0)
    for second in range(0, 5000, 30):
        assert not watch.look(HOT if second % 60 else CALM, 2000.0 + second)
