"""Descriptions of other engines' clusters: machines, memory and what runs there, from the file alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmtop.imports import clusters
from swarmtop.imports.detect_format import kind_of
from swarmtop.imports.findings import Found, ImportProblem

SAMPLES = Path(__file__).parent / "samples"
READERS = {"exo": clusters.exo, "parallax": clusters.parallax, "mesh-llm": clusters.mesh_llm}


def read(name: str) -> Found:
    text = (SAMPLES / name).read_text()
    return READERS[kind_of(text)](text)


@pytest.mark.parametrize(
    ("name", "machines", "running"),
    [
        (
            "exo-state.json",
            [("Studio", "Apple M3 Ultra", 400.0, 819.0), ("Anna-s-MacBook", "Apple M4 Max", 80.0, 546.0)],
            "Studio:0-59,Anna-s-MacBook:60-79",
        ),
        (
            "parallax-status.json",
            [("node-Alpha1", "NVIDIA GeForce RTX 4090", 24.0, 1008.0), ("node-Bravo2", "Apple M4 Max", 72.0, 546.0)],
            None,
        ),
        (
            "mesh-llm-status.json",
            [
                ("studio", "Apple M2 Max", 51.5e9 / 2**30, 380.5),
                ("attic", "NVIDIA GeForce RTX 3090", 24.0, 936.0),
                ("laptop", None, None, None),
            ],
            None,
        ),
    ],
)
def test_a_cluster_is_read(name: str, machines: list[tuple[object, ...]], running: str | None) -> None:
    found = read(name)
    for node, (called, device, gib, gbps) in zip(found.nodes, machines, strict=True):
        assert (node.name, node.device, node.mem_gbps) == (called, device, gbps)
        assert node.vram_gib == (None if gib is None else pytest.approx(gib))
    assert (found.running.placement if found.running else None) == running


def test_round_trips_of_mesh_llm_go_both_ways() -> None:
    rtts = {(link.src, link.dst): link.rtt_ms for link in read("mesh-llm-status.json").links}
    assert rtts == {
        ("studio", "attic"): 14.0, ("attic", "studio"): 14.0, ("studio", "laptop"): 41.0, ("laptop", "studio"): 41.0,
    }  # fmt: skip


def test_layers_that_parallax_names_are_what_runs() -> None:
    rows = [
        {"node_id": "x-two", "gpu_name": "NVIDIA A100 80GB PCIe", "gpu_memory": 80, "start_layer": 30, "end_layer": 64},
        {"node_id": "x-one", "gpu_name": "NVIDIA A100 80GB PCIe", "gpu_memory": 80, "start_layer": 0, "end_layer": 30},
    ]
    text = "data: " + json.dumps({"type": "cluster_status", "data": {"model_name": "m", "node_list": rows}}) + "\n\n"
    found = READERS[kind_of(text)](text)
    assert found.running is not None
    assert (found.running.placement, found.running.engine) == ("node-x-one:0-29,node-x-two:30-63", "parallax")


def test_tensor_parallel_of_exo_is_no_pipeline() -> None:
    file = json.loads((SAMPLES / "exo-state.json").read_text())
    shards = file["instances"]["i-1"]["MlxRingInstance"]["shardAssignments"]["runnerToShard"]
    for runner, wrapped in shards.items():
        shards[runner] = {"TensorShardMetadata": wrapped["PipelineShardMetadata"]}
    found = clusters.exo(json.dumps(file))
    assert found.running is None
    assert any("tensor parallel" in note for note in found.notes)


def test_exo_of_before_has_profiles_and_its_first_version_a_graph() -> None:
    profile = {
        "modelId": "Mac",
        "chipId": "Apple M1 Max",
        "friendlyName": "old",
        "memory": {"ramTotal": {"inBytes": 2**36}},
    }
    assert clusters.exo(json.dumps({"nodeProfiles": {"a": profile}})).nodes[0].name == "old"
    graph = {"nodes": {"a": {"model": "MacBook", "chip": "Apple M1 Max", "memory": 65536}}, "peer_graph": {}}
    text = json.dumps(graph)
    assert kind_of(text) == "exo"
    assert clusters.exo(text).nodes[0].device == "Apple M1 Max"


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        ("exo", '{"nodeMemory": {}}', "this state of exo names no node"),
        ("parallax", '{"type": "cluster_status", "data": {"node_list": []}}', "lists no node"),
        ("mesh-llm", '{"my_vram_gb": "many", "peers": [], "node_id": "a"}', "memory of here is 'many', not a number"),
        ("exo", "{", "this looks like JSON but is invalid"),
    ],
)
def test_what_cannot_be_read_says_why(kind: str, text: str, line: str) -> None:
    with pytest.raises(ImportProblem, match=line):
        READERS[kind](text)
