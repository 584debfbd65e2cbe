"""A swarm written by hand: what the format promises about each line, and one clear line for each mistake."""

from __future__ import annotations

import numpy as np
import pytest

from swarm_protocol.swarm_files.swarm_file import SwarmFileError, parse_swarm

TWO = """
[[node]]
name = "a"
vram_gib = 16.0
up_mbps = 100.0
  [[node.layer]]
  model = "*"
  phase = "prefill"
  tokens = 512
  ms = 9.0
[[node]]
name = "home"
[[link]]
from = "*"
to = "*"
rtt_ms = 5.0
[[link]]
from = "a"
to = "home"
rtt_ms = 9.0
jitter_ms = 2.0
[client]
node = "home"
"""


def test_links_are_directed_and_later_lines_override():
    swarm = parse_swarm(TWO)
    a, home = swarm.index("a"), swarm.index("home")
    assert swarm.links["rtt_min_ms"][a, home] == 9.0
    assert swarm.links["rtt_min_ms"][home, a] == 5.0
    assert swarm.links["jitter_ms"][home, a] == 0.0
    assert swarm.client == "home"
    assert np.isnan(swarm.nodes["vram_bytes"][home])
    assert swarm.nodes["vram_bytes"][a] == 16 * 2**30


def test_a_link_may_be_slower_one_way_than_the_other():
    text = '[[node]]\nname = "a"\n[[node]]\nname = "b"\n[[link]]\nfrom = "a"\nto = "b"\noneway_ms = 10\n'
    oneway = parse_swarm(text + "rtt_ms = 70").links["oneway_ms"]
    assert (oneway[0, 1], oneway[1, 0]) == (10, 60)
    for rest in ("", "rtt_ms = 9"):
        with pytest.raises(SwarmFileError, match="oneway_ms is a part of rtt_ms"):
            parse_swarm(text + rest)


def test_tokens_of_a_prefill_layer_are_its_context():
    (layer,) = parse_swarm(TWO).facts[0].layers
    assert (layer.phase, layer.context, layer.ms) == ("prefill", 512, 9.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no [[node]]; write at least one"),
        ("[[node]]\nname='a'\nvram=3\n", "[[node]] 1 (a): unknown key 'vram'; did you mean vram_gib?"),
        ("[[node]]\nname='a b'\n", "node name 'a b' is not"),
        ("[[node]]\nname='a'\n[[node]]\nname='a'\n", "'a' appears twice"),
        ("[[node]]\nname='a'\n[[link]]\nfrom='a'\nto='x'\nrtt_ms=1\n", "there is no node 'x'"),
        ("[[node]]\nname='a'\nup_mbps=-3\n", "[[node]] 1 (a), up_mbps: takes a number above 0"),
        ("[[node]\n", "Expected ']]'"),
    ],
)
def test_each_mistake_is_reported_in_one_line(text, said):
    with pytest.raises(SwarmFileError) as caught:
        parse_swarm(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
