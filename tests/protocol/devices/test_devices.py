"""Devices by name, as used by swarm files, `--nodes`, imports, and live nodes that have not been timed yet."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from swarm_protocol.devices.data_sheets import CLASSES, rows
from swarm_protocol.devices.machines import UnknownDevice, machine_of, mean_rate
from swarm_protocol.devices.names import find, nearest
from swarm_protocol.devices.places import UnknownCity, between_cities_ms, city_named, path_estimate
from swarm_protocol.swarm_files.named_nodes import BadNodes, parse_nodes

NAMES = list(csv.DictReader((Path(__file__).parent / "device_names.csv").read_text().splitlines()))


@pytest.mark.parametrize("line", NAMES, ids=[line["printed"] for line in NAMES])
def test_a_printed_name_has_its_data_sheets_bandwidth_or_none(line: dict[str, str]) -> None:
    device = find(line["printed"])
    if not line["gbps"]:
        assert device is None
        return
    assert device is not None, nearest(line["printed"])
    assert device.mem_gbps == pytest.approx(float(line["gbps"]), rel=0.03)


def test_every_row_has_a_class_and_possible_figures() -> None:
    for row in rows():
        device = row.device
        assert device.device_class in CLASSES[:-1]
        assert 1 <= device.mem_gbps <= 10_000
        assert device.memory_gib is None or 0.5 <= device.memory_gib <= 300
        assert device.tflops is None or 0 < device.tflops < 5_000


def test_a_laptop_name_never_gets_the_desktop_card() -> None:
    """Of every desktop GeForce and RTX card of the table."""
    for row in rows():
        if row.device.device_class == "gaming-gpu" and "RTX" in row.device.name:
            for tail in (" Laptop GPU", " with Max-Q Design"):
                found = find(row.device.name + tail)
                assert found is None or found.device_class == "laptop-gpu", row.device.name + tail


def test_a_memory_size_chooses_among_cards_of_one_name() -> None:
    assert [find("NVIDIA GeForce RTX 3080", gib).mem_gbps for gib in (10.0, 12.0)] == [760, 912]  # type: ignore[union-attr]
    assert find("GeForce RTX 3080 12GB").mem_gbps == 912  # type: ignore[union-attr]
    assert find("AMD Instinct MI250X", 64.0).mem_gbps == 1638  # type: ignore[union-attr]
    assert find("RTX 3090 48GB") is None


@pytest.mark.parametrize(
    ("typed", "name", "gib"),
    [
        ("4090", "GeForce RTX 4090", 24), ("rtx4070ti", "GeForce RTX 4070 Ti", 12),
        ("7900xtx", "Radeon RX 7900 XTX", 24), ("A4000", "RTX A4000", 16),
        ("m2-max-64", "Apple M2 Max", 64), ("m4-16", "Apple M4", 16),
        ("strix-halo-128", "Radeon 8060S", 128), ("pi-5-8", "Raspberry Pi 5", 8), ("h100", "H100 SXM5 HBM3 80 GB", 80),
        ("dgx spark 128GB", "GB10 Grace Blackwell", 128),
        ("Ryzen 9 7950X-64", "Ryzen 9 7950X", 64), ("5950X 64GB", "Ryzen 5950X", 64),
        ("i7-12700 32 GB", "i7-12700", 32),
        ("Core i9-13900K 20GB", "Core i9-13900K", 20), ("EPYC 7742 1024GB", "EPYC 7742", 1024),
        ("EPYC 7742 3TB", "EPYC 7742", 3072), ("EPYC 9654 1 TiB", "EPYC 9654", 1024),
        ("Ryzen 7 7840HS 32GB", "Ryzen 7 7840HS", 32), ("Ryzen AI 9 HX 370 32GB", "Ryzen AI 9 HX 370", 32),
    ],
)  # fmt: skip
def test_what_people_type_is_understood(typed: str, name: str, gib: float) -> None:
    device = find(typed)
    assert device is not None
    assert (device.name, device.memory_gib) == (name, gib)


@pytest.mark.parametrize("typed", ["M2 Ultra", "Raspberry Pi 4", "Ryzen 9 7950X", "EPYC 7742", "strix halo"])
def test_what_is_said_about_a_missing_memory_size_works_when_typed(typed: str) -> None:
    with pytest.raises(BadNodes) as refused:
        parse_nodes(typed)
    (example,) = re.findall(r"as in '(.*)'", str(refused.value))
    (node,) = parse_nodes(example)
    assert machine_of(node.device).vram_gib


def test_an_unknown_card_names_the_nearest() -> None:
    with pytest.raises(UnknownDevice) as refused:
        machine_of("RTX 4095")
    assert "no data sheet of 'RTX 4095'" in str(refused.value)
    with pytest.raises(UnknownDevice, match="GeForce RTX 4090"):
        machine_of("RTX 4090 Turbo")


@pytest.mark.parametrize(
    ("unknown", "first"),
    [
        ("RTX 6090", "GeForce RTX 5090"),
        ("RTX 5095", "GeForce RTX 5090"),
        ("RTX 50900", "GeForce RTX 5090"),
        ("RX 9999", "Radeon RX 9070"),
        ("Radeon RX 7950 XTX", "Radeon RX 7900 XTX"),
        ("RTX A7000", "RTX A6000"),
        ("Quadro RTX 7000", "Quadro RTX 6000"),
        ("MI450X", "Instinct MI350X 288 GB"),
        ("H300", "H200 NVL PCIe 141 GB"),
        ("M7 Max", "Apple M5 Max"),
        ("Arc B999", "Arc B580"),
    ],
)
def test_the_nearest_name_is_of_the_same_series_with_a_similar_number(unknown: str, first: str) -> None:
    assert nearest(unknown)[0] == first


@pytest.mark.parametrize("unknown", ["foo", "Core i9-15900K", "Ryzen 9 9999X"])
def test_a_name_like_none_in_the_table_has_no_nearest(unknown: str) -> None:
    assert nearest(unknown) == []


def test_two_unlike_cards_are_two_cards() -> None:
    both = machine_of("RTX 3090 + RTX A4000")
    assert (both.cards, both.vram_gib) == (2, 40)
    # 24 of 40 layers at 936 GB/s and 16 at 448: between the two, by their share of the layers
    assert both.mem_gbps == pytest.approx(40 / (24 / 936 + 16 / 448))
    assert 448 < both.mem_gbps < 936


def test_like_cards_take_the_time_of_one() -> None:
    for text, count in (("2x RTX 3060", 1), ("RTX 3060", 2), ("2× RTX 3060", 1), ("RTX 3060 x2", 1), ("3060+3060", 1)):
        pair = machine_of(text, count)
        assert (pair.cards, pair.vram_gib, pair.mem_gbps) == (2, 24, 360)


def test_the_mean_rate_keeps_the_time_of_the_whole() -> None:
    """100 layers, 25 at 100 a second and 75 at 300: half a second in all."""
    assert 100 / mean_rate([100.0, 300.0], [25.0, 75.0]) == pytest.approx(0.25 + 0.25)


def test_a_plus_in_a_name_is_no_second_card() -> None:
    assert machine_of("AMD RYZEN AI MAX+ 395 128GB").cards == 1


def test_unified_memory_is_shared_with_the_system() -> None:
    assert machine_of("m2-max-64").vram_gib == 48
    assert machine_of("Apple M3 Max").vram_gib is None


def test_a_city_nearby_counts_as_one_of_the_matrix() -> None:
    assert city_named("Utrecht") == city_named("AMSTERDAM") == "Amsterdam"
    assert city_named("Düsseldorf") == "Dusseldorf"
    assert between_cities_ms("Amsterdam", "Berlin") == between_cities_ms("Berlin", "Amsterdam")
    assert 8 < between_cities_ms("Amsterdam", "Berlin") < 25
    assert 60 < between_cities_ms("Amsterdam", "New York") < 110


def test_a_city_that_is_nowhere_near_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UnknownCity, match=r"no round trips of 'Amsterdmm': the nearest names are Amsterdam"):
        city_named("Amsterdmm")


def test_paths_add_lines_and_cities() -> None:
    there = path_estimate("fiber", "Amsterdam", "cable", "Berlin")
    assert there is not None
    assert there.rtt_ms == pytest.approx(3 + 10 + between_cities_ms("Amsterdam", "Berlin"))
    assert path_estimate("lan", None, "lan", None).rtt_ms < 1  # type: ignore[union-attr]
    assert path_estimate("fiber", None, None, None) is None


def test_the_table_is_read_at_the_first_question_only() -> None:
    code = (
        "import sys, swarm_protocol.swarm_files.swarm_file, swarm_protocol.snapshot.builder\n"
        "assert not [name for name in sys.modules if name.startswith('swarm_protocol.devices')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("typed", "name", "gib"),
    [
        ("R9700", "Radeon AI PRO R9700", 32), ("W7700", "Radeon PRO W7700", 16),
        ("MI50 32GB", "Instinct MI50 32 GB", 32), ("14900K 64GB", "Core i9-14900K", 32),
        ("MI50", "Instinct MI50 16 GB", 16), ("13700K 32GB", "Core i7-13700K", 16),
    ],
)  # fmt: skip
def test_a_model_number_is_enough_where_only_one_device_has_it(typed, name, gib):
    machine = machine_of(typed)
    assert (machine.name, machine.vram_gib) == (name, gib)


def test_a_servers_processor_gives_layers_most_of_its_memory():
    """376 GiB of DeepSeek R1 fit into 512 GB, as its users know; a desktop keeps half for what else runs."""
    assert machine_of("EPYC 9654 512GB").vram_gib == 448
    assert machine_of("Ryzen 9 9950X 64GB").vram_gib == 32
