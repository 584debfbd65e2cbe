"""`--nodes '4090@Utrecht fiber, 2x4060'`: machines, cities and lines in one line; what is left out is said."""

from __future__ import annotations

import numpy as np
import pytest

from swarm_protocol.devices.internet_access import ACCESS
from swarm_protocol.devices.places import between_cities_ms
from swarm_protocol.snapshot.swarm import Kind
from swarm_protocol.swarm_files.named_nodes import BadNodes, NamedNode, parse_nodes, swarm_of_nodes
from swarm_protocol.swarm_files.swarm_file import SwarmFileError, parse_swarm
from swarm_protocol.units import BYTES_PER_GIB

ISSUE = "4090@Utrecht fiber, 3090@Berlin cable, 2x4060, m2-max-64 5g"


def test_the_line_of_the_manual() -> None:
    assert parse_nodes(ISSUE) == [
        NamedNode("4090", "4090", "Utrecht", "fiber"),
        NamedNode("3090", "3090", "Berlin", "cable"),
        NamedNode("2x4060", "2x4060", None, None),
        NamedNode("m2-max-64", "m2-max-64", None, "5g"),
    ]
    swarm = swarm_of_nodes(ISSUE)
    assert list(swarm.nodes["vram_bytes"] / 2**30) == [24, 24, 16, 48]
    assert list(swarm.nodes["mem_gbps"]) == [1008, 936, 272, 400]
    assert swarm.links["rtt_p50_ms"][0, 1] == pytest.approx(3 + 10 + between_cities_ms("Amsterdam", "Berlin"))
    assert (swarm.links["kind"][~np.eye(4, dtype=bool)] == Kind.ESTIMATE).all()
    said = " ".join(swarm.assumed)
    assert "Utrecht as Amsterdam" in said
    assert "no city of 2x4060, m2-max-64" in said
    assert "no line of 2x4060: taken to be cable" in said


def test_counts_and_separators_as_people_write_them() -> None:
    swarm = swarm_of_nodes("h100x8@Berlin; rtx 3060 x2\nm2-max-64")
    assert list(swarm.nodes["vram_bytes"] / 2**30) == [640, 24, 48]


@pytest.mark.parametrize(
    ("text", "gib"),
    [
        ("two 3090s@Berlin", [48]), ("2 3090s", [48]), ("2x 3090s + A4000", [64]), ("12 H100s", [960]),
        ("a 4090", [24]),
        ("4090 and 3090", [24, 24]), ("v100 32", [32]), ("4090 24GB VRAM", [24]), ("4090 D", [24]),
        ("two M2 Ultra 192", [144, 144]),
    ],
)  # fmt: skip
def test_counts_and_sizes_in_words(text: str, gib: list[float]) -> None:
    """Each was refused with the very name that was meant as the nearest one."""
    assert [round(size / BYTES_PER_GIB) for size in swarm_of_nodes(text).nodes["vram_bytes"]] == gib


@pytest.mark.parametrize(
    ("text", "cities"),
    [
        ("4090 in Berlin, 3090 in Paris cable", ["Berlin", "Paris"]),
        ("4090@Portland, OR fiber; 3090@London UK", ["Portland", "London"]),
        ("4090 in San Francisco, CA", ["San Francisco"]),
    ],
)
def test_cities_as_people_write_them(text: str, cities: list[str]) -> None:
    assert [node.city for node in parse_nodes(text)] == cities


def test_a_count_of_what_is_a_machine_by_itself_is_of_machines() -> None:
    """Eight Mac minis are eight nodes; eight cards are in one host."""
    swarm = swarm_of_nodes("mini=3xM4 Pro 64GB@Berlin thunderbolt vram=59, 2xRaspberry Pi 5 8GB lan, 2x3090 lan")
    names = [facts.name for facts in swarm.facts]
    assert names == ["mini-1", "mini-2", "mini-3", "raspberry-pi-5-8gb", "raspberry-pi-5-8gb-2", "2x3090"]
    assert swarm.nodes["vram_bytes"][0] == 59 * BYTES_PER_GIB
    assert swarm.nodes["vram_bytes"][5] == 48 * BYTES_PER_GIB


def test_machines_on_one_wifi_are_two_hops_through_the_air_apart() -> None:
    swarm = swarm_of_nodes("a=M4 Max 64GB@Berlin wi-fi, b=4090@Berlin wifi, c=4090@Berlin lan")
    assert swarm.links["rtt_p50_ms"][0, 1] == pytest.approx(4.0)
    assert swarm.links["rtt_p50_ms"][0, 2] == pytest.approx(2.15)


def test_names_differ_by_city_then_by_number() -> None:
    names = [node.name for node in parse_nodes("4090@Berlin, 4090@Paris, 4090@Paris, attic=4090, 3090")]
    assert names == ["4090-berlin", "4090-paris", "4090-paris-2", "attic", "3090"]


@pytest.mark.parametrize(
    ("text", "device", "city", "access"),
    [
        ("RTX 3090 + RTX A4000@New York fibre", "RTX 3090 + RTX A4000", "New York", "fiber"),
        ("4090 starlink @ Ho Chi Minh City", "4090", "Ho Chi Minh City", "starlink"),
        ("4090@São Paulo", "4090", "São Paulo", None),
        ("RTX 4070 Ti SUPER lan", "RTX 4070 Ti SUPER", None, "lan"),
    ],
)
def test_cities_and_devices_of_several_words(text: str, device: str, city: str | None, access: str | None) -> None:
    (node,) = parse_nodes(text)
    assert (node.device, node.city, node.access) == (device, city, access)


@pytest.mark.parametrize(
    ("text", "access"),
    [("4090@Berlin 250/40", None), ("4090 250/40@Berlin", None), ("4090@Berlin cable 250/40Mbit/s", "cable"),
     ("4090@Berlin 250/40 dsl", "dsl")],
)  # fmt: skip
def test_the_rates_of_a_line_are_those_written(text: str, access: str | None) -> None:
    (node,) = parse_nodes(text)
    assert (node.device, node.city, node.access, node.down_mbps, node.up_mbps) == ("4090", "Berlin", access, 250, 40)
    swarm = swarm_of_nodes(text)
    assert (swarm.nodes["down_mbps"][0], swarm.nodes["up_mbps"][0]) == (250, 40)
    said = " ".join(swarm.assumed)
    assert ("no kind of line of 4090: taken to be cable" in said) == (access is None)
    assert "no line of" not in said


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "names no machine"),
        ("4091", "no data sheet of '4091': the nearest names are GeForce RTX 4090"),
        ("m2-max", "add its size, as in 'm2-max 64GB'"),
        ("pi5", "add its size, as in 'pi5 8GB'"),
        ("4x4090 New York", "write the city after @, as in '4x4090@New York'"),
        ("4090@Atlantis", "no round trips of 'Atlantis': the nearest names are Atlanta"),
        ("4090@Germany", "no round trips of 'Germany': name a large city there"),
        ("4090 in my basement", "no round trips of 'my basement'"),
        ("4090@Berlin fibber", "there is no line 'fibber'; there are fiber, cable"),
        ("4090 cable@Berlin fiber", "names two lines"),
        ("4090@Berlin gigabit", "or rates as DOWN/UP in Mbit/s, as in 250/40"),
        ("4090@Berlin 100/0", "a rate of 0 Mbit/s sends nothing"),
        ("4090 (Berlin)", "write the city after @, as in '4090@Berlin'"),
        ("4090@", "has no city after @"),
        ("@Berlin", "names no device"),
        ("a=4090, a=3090", "two machines have the same name"),
        ("../x=4090", "is not a node name"),
        ("100x4090", "no data sheet of '100x4090'"),
    ],
)
def test_what_is_wrong_is_reported_in_one_line(text: str, line: str) -> None:
    with pytest.raises(BadNodes) as refused:
        swarm_of_nodes(text)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


# ---------------------------------------------------------------- swarm files


def test_figures_of_the_file_win_over_names() -> None:
    swarm = parse_swarm("""
[[node]]
name = "a"
gpu = "RTX 4090"
mem_gbps = 860.0
access = "cable"
up_mbps = 38.0
[[node]]
name = "b"
gpu = "RTX 3060"
count = 2
access = "fiber"
[[link]]
from = "a"
to = "b"
rtt_ms = 7.0
""")
    nodes, links = swarm.nodes, swarm.links
    assert (nodes["mem_gbps"][0], nodes["vram_bytes"][0], nodes["tflops"][0]) == (860, 24 * 2**30, 165.2)
    assert (nodes["up_mbps"][0], nodes["up_kind"][0]) == (38, Kind.MEASURED)
    assert (nodes["down_mbps"][0], nodes["down_kind"][0]) == (ACCESS["cable"].down_mbps, Kind.ESTIMATE)
    assert (nodes["vram_bytes"][1], nodes["mem_gbps"][1]) == (24 * 2**30, 360)
    assert (swarm.facts[0].sheet, swarm.facts[1].sheet) == ("", "2× GeForce RTX 3060 12 GB")
    # what a [[link]] states is measured and has no jitter unless it says so; it holds for the way back, not the guess
    assert (links["rtt_p50_ms"][0, 1], links["kind"][0, 1], links["jitter_ms"][0, 1]) == (7, Kind.MEASURED, 0)
    assert links["kind"][1, 0] == Kind.NONE
    assert not any("cities" in line for line in swarm.assumed)


def test_one_network_is_two_interfaces_apart() -> None:
    swarm = swarm_of_nodes("4090 lan, 3090 lan, 3060 thunderbolt")
    assert swarm.links["rtt_p50_ms"][0, 1] == pytest.approx(0.3)
    assert not any("region" in line for line in swarm.assumed)


@pytest.mark.parametrize(
    ("node", "line"),
    [
        ('gpu = "RTX 4091"', "node 'a': no data sheet of 'RTX 4091': the nearest names are"),
        ('gpu = "Apple M2 Max"', "uses the memory of its machine; add its size"),
        ("count = 2", "count goes with gpu"),
        ('gpu = "RTX 4090"\naccess = "fibber"', "there is no access 'fibber'; there are fiber"),
        ('gpu = "RTX 4090"\ncity = "Atlantis"', "no round trips of 'Atlantis'"),
    ],
)
def test_a_name_that_is_not_known_is_refused(node: str, line: str) -> None:
    with pytest.raises(SwarmFileError) as refused:
        parse_swarm(f'[[node]]\nname = "a"\n{node}\n')
    assert line in str(refused.value)


def test_a_card_of_ones_own_needs_its_figures() -> None:
    swarm = parse_swarm('[[node]]\nname = "a"\ngpu = "Homebrew 9"\nvram_gib = 8.0\nmem_gbps = 300.0\n')
    assert (swarm.facts[0].device, swarm.facts[0].sheet, swarm.nodes["mem_gbps"][0]) == ("Homebrew 9", "", 300)


def test_a_device_fills_what_is_missing_but_never_makes_the_client_serve() -> None:
    nodes = '[[node]]\nname = "a"\ndevice = "RTX 4090"\n[[node]]\nname = "home"\ndevice = "RTX 3060"\n'
    swarm = parse_swarm(nodes + '[client]\nnode = "home"\n')
    assert (swarm.nodes["vram_bytes"][0], swarm.nodes["mem_gbps"][0]) == (24 * 2**30, 1008)
    assert np.isnan(swarm.nodes["vram_bytes"][1])
    assert swarm.nodes["mem_gbps"][1] == 360  # for the LM head, where an engine computes it there
