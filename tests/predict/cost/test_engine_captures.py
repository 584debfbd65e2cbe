"""Engine facts hold for captured runs: what crosses the wire for one token, message by message.

`bench/engine_runs/captures` has the runs, `bench/engine_runs/engines/rpc_capture.py` records them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swarm_predict.cost.engines import ENGINES, HEADER_BYTES
from swarm_predict.model.shapes import ModelShape
from swarm_protocol.layer_shape import LayerShape

CAPTURES = Path(__file__).parents[3] / "bench" / "engine_runs" / "captures"
ANSWER_HEAD_BYTES = 8  # its length
TENSOR_HEAD_BYTES = 314  # of a tensor that is set: command, length, description, offset

LLAMA_CPP = json.loads((CAPTURES / "llama.cpp.json").read_text())
SERVERS = [
    pytest.param(run["servers"], position, id=f"run{number}-server{position}")
    for number, run in enumerate(LLAMA_CPP["runs"])
    for position in range(len(run["servers"]))
]


def captured_model() -> ModelShape:
    facts = LLAMA_CPP["model"]
    layer = LayerShape(
        architecture="llama", hidden=facts["hidden"], intermediate=2048, heads=16, kv_heads=4, head_dim=64
    )
    return ModelShape("captured", facts["layers"], layer, facts["vocab"], tied=False)


@pytest.mark.parametrize(("servers", "position"), SERVERS)
def test_llama_cpp_is_a_star_whose_stages_answer_the_main_host(servers: list[dict[str, Any]], position: int) -> None:
    facts, model = ENGINES["llama.cpp"], captured_model()
    server = servers[position]
    hidden = facts.hop_bytes(model, 1, "fp16")
    assert facts.pattern == "star"
    assert len(server["a_token"]["answer"]) == 1  # one wait a server: everything else is sent without one
    answer = server["a_token"]["answer"][0] - ANSWER_HEAD_BYTES
    assert answer == (facts.result_bytes(model, 1, "fp16") if server["head"] else hidden)
    assert server["a_token"]["SET_TENSOR"][0] - TENSOR_HEAD_BYTES == facts.enter_bytes(model, 1, "fp16") == hidden


@pytest.mark.parametrize(("servers", "position"), SERVERS)
def test_a_server_of_llama_cpp_receives_two_kilobytes_beside_the_hidden_states(
    servers: list[dict[str, Any]], position: int
) -> None:
    """Heads, positions, two cache indices, the mask (256 tokens of fp16), the order to compute, the request."""
    messages, hidden = servers[position]["a_token"], 4 * LLAMA_CPP["model"]["hidden"]
    received = sum(size for kind, sizes in messages.items() if kind != "answer" for size in sizes)
    activations = sum(size > hidden for size in messages["SET_TENSOR"])
    heads = TENSOR_HEAD_BYTES * len(messages["SET_TENSOR"])
    output_ids = 4 if servers[position]["head"] else 0
    beside = received - activations * hidden
    assert beside == heads + 4 + 2 * 8 + 256 * 2 + output_ids + 13 + 321
    llama_cpp = ENGINES["llama.cpp"]
    commands = len(messages["SET_TENSOR"]) + 2 - (activations - 1) - (1 if output_ids else 0)
    assert llama_cpp.extra_packets == 3 * commands - 1  # command, size and body of each; the hidden states' fill some
    facts = llama_cpp.input_bytes(1, LLAMA_CPP["model"]["context"]) - llama_cpp.extra_packets * HEADER_BYTES
    assert beside - facts == (TENSOR_HEAD_BYTES + output_ids if output_ids else 0) + TENSOR_HEAD_BYTES * (
        activations - 1
    )
    assert "GRAPH_COMPUTE" not in messages  # the server keeps the graph


def test_layers_on_the_main_hosts_processor_cost_a_second_activation() -> None:
    own_first = LLAMA_CPP["runs"][2]["servers"][0]["a_token"]["SET_TENSOR"]
    none_first = LLAMA_CPP["runs"][1]["servers"][0]["a_token"]["SET_TENSOR"]
    assert sum(own_first) - sum(none_first) == 4 * LLAMA_CPP["model"]["hidden"] + TENSOR_HEAD_BYTES


@pytest.mark.parametrize("run", LLAMA_CPP["prompts"])
def test_with_a_prompt_a_server_is_sent_how_to_compute_each_of_its_layers(run: dict[str, Any]) -> None:
    """The graph of a token is kept by the server, that of a prompt is another one."""
    facts, hidden = ENGINES["llama.cpp"], 4 * LLAMA_CPP["model"]["hidden"]
    for server in run["servers"]:
        messages = server["a_prompt"]
        (graph,) = messages["GRAPH_COMPUTE"]
        assert facts.graph_bytes * server["layers"] == pytest.approx(graph, rel=0.1)  # and what is not of a layer
        assert messages["SET_TENSOR"][0] - TENSOR_HEAD_BYTES == run["tokens"] * hidden
