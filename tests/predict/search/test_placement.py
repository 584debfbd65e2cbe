"""What people type after --placement: the stages it means, or the one line that says what is wrong."""

from __future__ import annotations

import pytest
from boxes import Box, swarm_of
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import check_placement, format_placement, parse_placement
from swarm_predict.types import BadPlacement, Stage

TINY = model_named("tiny")  # 8 layers
SWARM = swarm_of([Box("a"), Box("b"), Box("c-3.x_y"), Box("home", vram_gib=None)])


def test_stages_are_read_in_layer_order():
    assert parse_placement(" b:4-7 , a : 0-3", TINY, SWARM) == (Stage("a", 0, 3), Stage("b", 4, 7))
    assert parse_placement("a:0,b:1-6,c-3.x_y:7", TINY, SWARM)[2] == Stage("c-3.x_y", 7, 7)


@given(st.lists(st.integers(1, 7), unique=True, max_size=2).map(sorted))
def test_text_and_placement_are_inverse(cuts):
    edges = [0, *cuts, 8]
    placement = tuple(
        Stage(node, first, last - 1)
        for node, first, last in zip(["a", "b", "c-3.x_y"], edges[:-1], edges[1:], strict=False)
    )
    assert parse_placement(format_placement(placement), TINY, SWARM) == placement


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is not NODE:FIRST-LAST; write a placement like a:0-39,b:40-79"),
        ("a", "'a' is not NODE:FIRST-LAST; write a placement like a:0-39,b:40-79"),
        ("a:0-", "'a:0-' is not NODE:FIRST-LAST; write a placement like a:0-39,b:40-79"),
        ("a:0-3;b:4-7", "'a:0-3;b:4-7' is not NODE:FIRST-LAST; write a placement like a:0-39,b:40-79"),
        ("a:-1-3", "'a:-1-3' is not NODE:FIRST-LAST; write a placement like a:0-39,b:40-79"),
        ("a:0-3,", "'' is not NODE:FIRST-LAST; write a placement like a:0-39,b:40-79"),
        ("x:0-7", "there is no node 'x'; the swarm has a, b, c-3.x_y, home"),
        ("hone:0-7", "there is no node 'hone'; did you mean home?"),
        ("home:0-7", "home has no memory for layers (no vram_gib): it can only be the client"),
        ("a:3-0,b:4-7", "a:3-0 runs backwards; write a:0-3"),
        ("a:0-8", "a:0-8 goes beyond tiny, whose last layer is 7"),
        ("a:0-4,b:4-7", "layer 4 is on both a and b; give each layer to one node"),
        ("a:0-7,b:2-3", "layers 2-3 are on both a and b; give each layer to one node"),
        ("a:0-2,b:5-6", "layers 3-4 and layer 7 of tiny are on no node; layers go from 0 to 7"),
        ("a:1-7", "layer 0 of tiny is on no node; layers go from 0 to 7"),
        ("a:0-3,a:4-7", "a is there twice; give it one range of layers"),
        ("a:0-999999999", "'a:0-999999999' is not NODE:FIRST-LAST; write a placement like a:0-39,b:40-79"),
    ],
)
def test_each_mistake_is_one_line(text, said):
    with pytest.raises(BadPlacement) as caught:
        parse_placement(text, TINY, SWARM)
    assert str(caught.value) == said


def test_tensor_parallel_may_hold_all_layers_everywhere():
    placement = parse_placement("a:0-7,b:0-7", TINY, SWARM, "tensor-parallel")
    assert [stage.node for stage in placement] == ["a", "b"]
    assert parse_placement("a:0-3,b:4-7", TINY, SWARM, "tensor-parallel")[1] == Stage("b", 4, 7)
    with pytest.raises(BadPlacement, match="on both a and b"):
        parse_placement("a:0-7,b:0-6", TINY, SWARM, "tensor-parallel")


def test_a_placement_without_stages_is_refused():
    with pytest.raises(BadPlacement, match="the placement is empty"):
        check_placement((), TINY, SWARM)


@given(st.text(max_size=40))
def test_any_text_gives_stages_or_one_line(text):
    try:
        count = len(parse_placement(text, TINY, SWARM))
    except BadPlacement as error:
        count = 1 if "\n" not in str(error) else 0
    assert count > 0
