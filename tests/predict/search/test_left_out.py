"""A plan lists the nodes that it could not consider, each with what to do."""

from __future__ import annotations

import pytest

from swarm_predict.model.catalogue import model_named
from swarm_predict.search.solve import plan
from swarm_predict.types import DoesNotFit, Workload
from swarm_protocol.swarm_files.swarm_file import parse_swarm

MODEL = model_named("llama-3.1-8b")
KNOWN = '[[node]]\nname = "known"\nvram_gib = 24.0\nmem_gbps = 936.0\n'
LINKS = '[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = 1.0\n'


def left(text: str, **options: object) -> dict[str, str]:
    found = plan(parse_swarm(text), MODEL, Workload(), **options)  # type: ignore[arg-type]
    return {each.node: each.why for each in found.left_out}


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ("mem_gbps = 1008.0", "no memory is known: write vram_gib, or name its card with gpu"),
        ("vram_gib = 24.0", "no layer time and no memory bandwidth: write mem_gbps or [[node.layer]]"),
        (
            'vram_gib = 24.0\ndevice = "Mystery 4090"',
            "('Mystery 4090' has no data sheet here; nearest: GeForce RTX 4090",
        ),
    ],
)
def test_a_node_that_lacks_a_figure_is_named_with_the_reason(node: str, why: str) -> None:
    found = left(KNOWN + f'[[node]]\nname = "odd"\n{node}\n' + LINKS)
    assert list(found) == ["odd"]
    assert why in found["odd"]


def test_a_node_without_a_path_is_left_out() -> None:
    text = KNOWN + '[[node]]\nname = "far"\nvram_gib = 24.0\nmem_gbps = 900.0\n'
    assert left(text) == dict.fromkeys(
        ("known", "far"), "no round trip to any other machine: write a [[link]], or access and city"
    )


def test_the_client_and_who_is_forbidden_are_not_missing() -> None:
    text = KNOWN + '[[node]]\nname = "home"\n[[node]]\nname = "odd"\nvram_gib = 8.0\n' + LINKS
    assert left(text + '[client]\nnode = "home"\n', forbid=["odd"]) == {}


def test_a_known_spare_is_not_left_out() -> None:
    assert left(KNOWN + '[[node]]\nname = "slow"\nvram_gib = 24.0\nmem_gbps = 20.0\n' + LINKS) == {}


def test_an_error_names_who_was_not_considered() -> None:
    text = (
        '[[node]]\nname = "small"\nvram_gib = 2.0\nmem_gbps = 936.0\n[[node]]\nname = "odd"\nmem_gbps = 900.0\n' + LINKS
    )
    with pytest.raises(DoesNotFit, match=r"left out: odd, no memory is known"):
        plan(parse_swarm(text), MODEL, Workload())
