"""Launch lines: each engine's own grammar accepts them, every layer is served once, and the warnings are there."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex

import pytest
from swarms import plain

from swarm_predict.launch.commands import Launch, launch, launch_lines
from swarm_predict.model.catalogue import model_named
from swarm_predict.search.solve import plan
from swarm_predict.types import Engine, Stage, Workload
from swarm_protocol.snapshot.swarm import Swarm

MODEL = model_named("llama-2-70b")
PLACEMENT = (Stage("n0", 0, 29), Stage("n1", 30, 49), Stage("n2", 50, 79))


def swarm_at(*hosts: str) -> Swarm:
    swarm = plain(count=3)
    swarm.facts = tuple(dataclasses.replace(f, host=h) for f, h in zip(swarm.facts, hosts, strict=True))
    return swarm


def launched(engine: Engine, *hosts: str, weights: str = "int8", client: str | None = None) -> Launch:
    swarm = swarm_at(*(hosts or ("10.0.0.1", "10.0.0.2", "10.0.0.3")))
    return launch(swarm, MODEL, Workload(engine=engine, weights=weights, client=client), PLACEMENT)


def words(text: str, after: str) -> list[str]:
    """The arguments of a command line behind its program."""
    return shlex.split(text.split(after, 1)[1])


def test_petals_serves_each_block_once_by_its_own_parser() -> None:
    """Options as in petals/cli/run_server.py."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--dht_prefix", required=True)  # a folder has none of its own
    parser.add_argument("--block_indices")
    parser.add_argument("--port", type=int)
    parser.add_argument("--public_ip")
    parser.add_argument("--torch_dtype", choices=["auto", "float16", "bfloat16", "float32"])
    parser.add_argument("--quant_type", choices=["none", "int8", "nf4"])
    parser.add_argument("--throughput", choices=["auto", "eval", "dry_run"])
    peers = parser.add_mutually_exclusive_group(required=True)
    peers.add_argument("--initial_peers", nargs="+")
    peers.add_argument("--new_swarm", action="store_true")
    found = launched("petals", "8.8.8.8", "10.0.0.2", "")
    parsed = [parser.parse_args(words(command.text, "run_server")) for command in found.commands]
    blocks = [range(*map(int, args.block_indices.split(":"))) for args in parsed]
    assert [block for run in blocks for block in run] == list(range(80))
    assert {args.dht_prefix for args in parsed} == {"llama-2-70b-hf"}
    assert any("dht_prefix='llama-2-70b-hf'" in note for note in found.notes)
    assert [args.new_swarm for args in parsed] == [True, False, False]
    assert [args.public_ip for args in parsed] == ["8.8.8.8", None, None]
    assert "leave --throughput at auto" in found.warnings[0]


def test_petals_says_which_weights_it_does_not_have() -> None:
    assert "petals has no q4_k_m weights; these lines load float16" in launched("petals", weights="q4_k_m").warnings


def test_llama_cpp_splits_as_placed_with_the_output_layer_on_the_last_device() -> None:
    found = launched("llama.cpp", client="home")
    server = found.commands[-1]
    assert server.node == "home"
    parser = argparse.ArgumentParser()
    parser.add_argument("-m")
    parser.add_argument("-ngl", type=int)
    parser.add_argument("-c", type=int)
    parser.add_argument("--rpc")
    parser.add_argument("--tensor-split")
    parser.add_argument("-cram", type=int)
    args = parser.parse_args(words(server.text, "llama-server"))
    assert args.rpc == "10.0.0.1:50052,10.0.0.2:50052,10.0.0.3:50052"
    assert args.tensor_split == "30,20,31"
    assert args.cram == 0
    assert args.c == 256


def test_an_rpc_server_never_listens_on_a_public_or_unknown_address() -> None:
    """It has no authentication. Public machines are reached through ssh, and the main host talks to the tunnel."""
    found = launched("llama.cpp", "8.8.8.8", "", "192.168.1.7", client="home")
    servers = [command.text for command in found.commands if command.text.startswith("ggml-rpc-server")]
    assert servers == [
        "ggml-rpc-server -H 127.0.0.1 -p 50052 -c",
        "ggml-rpc-server -H 127.0.0.1 -p 50052 -c",
        "ggml-rpc-server -H 192.168.1.7 -p 50052 -c",
    ]
    tunnels = [command.text for command in found.commands if command.text.startswith("ssh")]
    assert tunnels == [
        "ssh -N -L 50100:127.0.0.1:50052 8.8.8.8",
        "ssh -N -L 50101:127.0.0.1:50052 ADDRESS-OF-n1",
    ]
    assert "--rpc 127.0.0.1:50100,127.0.0.1:50101,192.168.1.7:50052" in found.commands[-1].text
    assert "must never face the open internet" in found.warnings[0]


def test_llama_cpp_gives_the_main_host_the_last_layers_and_says_so() -> None:
    found = launched("llama.cpp", client="n0")
    assert "--tensor-split 20,30,31" in found.commands[-1].text
    assert any("n0 gets the last layers" in note for note in found.notes)


def test_llama_cpp_leaves_the_first_layers_on_a_main_host_without_a_gpu() -> None:
    """--tensor-split knows no processor: it would put every layer on the RPC servers (src/llama-model.cpp)."""
    swarm = swarm_at("10.0.0.1", "10.0.0.2", "10.0.0.3")
    swarm.facts = (
        dataclasses.replace(swarm.facts[0], device="cpu: AMD EPYC 7B13", device_class="x86"),
        *swarm.facts[1:],
    )
    load = Workload(engine="llama.cpp", weights="int8", client="n0")
    found = launch(swarm, MODEL, load, PLACEMENT)
    assert found.commands[-1].text.endswith("--rpc 10.0.0.2:50052,10.0.0.3:50052 -cram 0 -ngl 51 --tensor-split 20,31")
    assert any("n0 has no GPU: its processor gets the first layers" in note for note in found.notes)
    one_server = launch(swarm, MODEL, load, (Stage("n1", 0, 49), Stage("n0", 50, 79)))
    assert one_server.commands[-1].text.endswith("--rpc 10.0.0.2:50052 -cram 0 -ngl 51")


def test_vllm_ranks_share_one_partition_and_one_head() -> None:
    found = launched("vllm", weights="bf16")
    assert all(
        command.text.startswith("VLLM_PP_LAYER_PARTITION=30,20,30 vllm serve $MODEL") for command in found.commands
    )
    assert [f"--node-rank {rank} --master-addr 10.0.0.1" in c.text for rank, c in enumerate(found.commands)] == [
        True
    ] * 3
    assert ["--headless" in command.text for command in found.commands] == [False, True, True]
    assert "private network only" in found.warnings[0]


def test_parallax_ranges_end_exclusive() -> None:
    """Options as in parallax/server/server_args.py."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-path")
    parser.add_argument("--start-layer", type=int)
    parser.add_argument("--end-layer", type=int)
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--initial-peers", nargs="+", default=[])
    parsed = [parser.parse_args(words(c.text, "launch.py")) for c in launched("parallax", weights="fp16").commands]
    assert [(args.start_layer, args.end_layer) for args in parsed] == [(0, 30), (30, 50), (50, 80)]
    assert [bool(args.initial_peers) for args in parsed] == [False, True, True]


def test_exo_shards_are_half_open_and_name_every_runner() -> None:
    body = json.loads(launched("exo").commands[0].text)["shardAssignments"]
    shards = [shard["PipelineShardMetadata"] for shard in body["runnerToShard"].values()]
    assert [(s["startLayer"], s["endLayer"], s["deviceRank"]) for s in shards] == [(0, 30, 0), (30, 50, 1), (50, 80, 2)]
    assert set(body["nodeToRunner"].values()) == set(body["runnerToShard"])


def test_prima_closes_its_ring_at_the_head() -> None:
    found = launched("prima.cpp")
    assert "--world 3 --rank 0 --master 10.0.0.1 --next 10.0.0.2" in found.commands[0].text
    assert "-lw 30,20,30" in found.commands[0].text
    assert "--rank 2 --master 10.0.0.1 --next 10.0.0.1" in found.commands[2].text


def dllama(arguments: list[str]) -> dict[str, list[str]]:
    """As distributed-llama's src/app.cpp reads them (ddde606): a mode or none, then options with one value, but
    --workers with all that do not begin with a dash."""
    known = {
        *("--model", "--tokenizer", "--prompt", "--buffer-float-type", "--workers", "--port", "--nthreads", "--steps"),
        *("--temperature", "--topp", "--seed", "--chat-template", "--max-seq-len", "--gpu-index"),
    }
    found: dict[str, list[str]] = {}
    at = 0
    while at + 1 < len(arguments):
        name, end = arguments[at], at + 2
        assert name in known
        if name == "--workers":
            while end < len(arguments) and not arguments[end].startswith("-"):
                end += 1
            assert all(":" in host for host in arguments[at + 1 : end])
        found[name] = arguments[at + 1 : end]
        at = end
    return found


def sharing(count: int, **hosts: str) -> Launch:
    swarm = plain(count=count)
    placement = tuple(Stage(f"n{k}", 0, 79) for k in range(count))
    return launch(swarm, MODEL, Workload(engine="tensor-parallel", weights="q4_0"), placement)


def test_distributed_llama_names_every_worker_by_its_own_grammar() -> None:
    found = sharing(4)
    workers = [dllama(words(c.text, "./dllama worker")) for c in found.commands[:-1]]
    root = dllama(words(found.commands[-1].text, "./dllama-api"))
    assert [worker["--port"] for worker in workers] == [["9999"]] * 3
    assert root["--workers"] == [f"ADDRESS-OF-n{k}:9999" for k in (1, 2, 3)]
    assert root["--buffer-float-type"] == ["q80"]
    assert "private network only" in found.warnings[0]


@pytest.mark.parametrize(("count", "take"), [(3, 2), (6, 4), (16, 8)])
def test_distributed_llama_takes_powers_of_two_up_to_the_kv_heads(count: int, take: int) -> None:
    found = sharing(count)
    assert found.commands == ()
    assert found.warnings[0].endswith(f"not on {count}; take {take}")


def test_prima_has_room_for_32_windows() -> None:
    """common/arg.cpp (0cdf998): more throw."""
    swarm = plain(count=40)
    placement = tuple(Stage(f"n{k}", 2 * k, 2 * k + 1) for k in range(40))
    found = launch(swarm, MODEL, Workload(engine="prima.cpp"), placement)
    assert found.commands == ()
    assert "at most 32 nodes, not 40" in found.warnings[0]
    ranks = [words(command.text, "./llama-server") for command in launched("prima.cpp").commands[:1]]
    windows = ranks[0][ranks[0].index("-lw") + 1].split(",")
    assert all(int(window) > 0 for window in windows)


def test_vllm_starts_groups_of_cards_and_counts_them_as_stages() -> None:
    """Groups are of one size: the four cards of n0 are two stages beside the two cards of n1."""
    swarm = swarm_at("10.0.0.1", "10.0.0.2", "10.0.0.3")
    devices = ("4x RTX 3090", "2x RTX 3090", "")
    swarm.facts = tuple(dataclasses.replace(f, device=device) for f, device in zip(swarm.facts, devices, strict=True))
    placement = (Stage("n0", 0, 50), Stage("n1", 51, 79))
    found = launch(swarm, MODEL, Workload(engine="vllm", weights="int8"), placement)
    for command in found.commands:
        assert command.text.startswith("VLLM_PP_LAYER_PARTITION=26,25,29 vllm serve $MODEL")
        assert "--tensor-parallel-size 2 --pipeline-parallel-size 3" in command.text
        assert "--nnodes 2" in command.text
    found = launch(swarm, MODEL, Workload(engine="sglang", weights="int8"), placement)
    assert all("--tp-size 2 --pp-size 3 --nnodes 2" in command.text for command in found.commands)


def test_one_host_with_several_cards_needs_no_pipeline() -> None:
    swarm = swarm_at("10.0.0.1", "10.0.0.2", "10.0.0.3")
    swarm.facts = (dataclasses.replace(swarm.facts[0], device="8x H100"), *swarm.facts[1:])
    found = launch(swarm, MODEL, Workload(engine="vllm", weights="bf16"), (Stage("n0", 0, 79),))
    assert [command.text for command in found.commands] == [
        "vllm serve $MODEL --dtype bfloat16 --tensor-parallel-size 8"
    ]


@pytest.mark.parametrize(
    ("engine", "runs"), [("chain", "parallax"), ("star", "petals"), ("ring", "prima.cpp"), ("hybrid", "vllm-tp")]
)
def test_a_pattern_of_messages_is_started_with_an_engine_that_sends_so(engine: Engine, runs: Engine) -> None:
    found, same = launched(engine), launched(runs)
    assert (found.commands, found.warnings, found.notes[1:]) == (same.commands, same.warnings, same.notes)
    assert (
        found.notes[0] == f"{engine} is how messages travel; these lines start {runs}, and --engine {runs} predicts it"
    )


def test_a_hostile_address_stays_one_word() -> None:
    text = launched("vllm", "10.0.0.1; rm -rf ~", "10.0.0.2", "10.0.0.3").commands[1].text
    assert words(text, "--master-addr")[0] == "10.0.0.1; rm -rf ~"


def test_lines_are_comments_and_commands_only() -> None:
    swarm, workload = plain(count=5), Workload(engine="petals", weights="int8")
    lines = launch_lines(swarm, MODEL, workload, plan(swarm, MODEL, workload).prediction.placement)
    assert all(line.startswith(("#", "python -m petals")) for line in lines)
    assert lines[0].startswith("# warning: leave --throughput at auto")


def test_shard_starts_from_the_tail_with_half_open_ranges_and_the_coordinator_last() -> None:
    """Options as in phase0/specpipe.py of leyten/shard."""
    swarm = swarm_at("10.0.0.1", "10.0.0.2", "10.0.0.3")
    load = Workload(engine="shard", client="n4", draft_tokens=4, draft_accept=0.8, windows=3)
    found = launch(swarm, MODEL, load, PLACEMENT)
    assert [command.node for command in found.commands] == ["n2", "n1", "n0", "n4"]
    ranges = [(words(c.text, "--lo")[0], words(c.text, "--hi")[0]) for c in found.commands[:3]]
    assert ranges == [("50", "80"), ("30", "50"), ("0", "30")]
    assert "--next" not in found.commands[0].text
    coordinator = found.commands[3].text
    assert "--coordinator" in coordinator
    assert "--K 4 --pipe --depth 3" in coordinator


@pytest.mark.parametrize(
    ("engine", "sizes"), [("vllm-tp", "size 2 --pipeline-parallel-size 2"), ("sglang-tp", "size 2 --pp-size 2")]
)
def test_groups_become_ranks_of_one_world(engine: Engine, sizes: str) -> None:
    swarm = plain(count=5)
    placement = tuple(Stage(f"n{k}", *((0, 39) if k < 2 else (40, 79))) for k in range(4))
    found = launch(swarm, MODEL, Workload(engine=engine), placement)
    assert [command.node for command in found.commands] == ["n0", "n1", "n2", "n3"]
    for rank, command in enumerate(found.commands):
        assert sizes in command.text
        assert f"--nnodes 4 --node-rank {rank}" in command.text


def test_every_card_of_a_host_is_a_device_of_llama_cpp() -> None:
    import dataclasses

    swarm = swarm_at("10.0.0.1", "10.0.0.2", "10.0.0.3")
    devices = ("RTX 3090", "2x RTX 3090", "RTX 3060 + RTX A4000")
    swarm.facts = tuple(dataclasses.replace(f, device=d) for f, d in zip(swarm.facts, devices, strict=True))
    found = launch(swarm, MODEL, Workload(engine="llama.cpp", weights="q4_k_m", client="n0"), PLACEMENT)
    assert "--tensor-split 10,10,15,15,31" in found.commands[-1].text
    assert any("each card of n1, n2 is a device of its own" in note for note in found.notes)


def test_exo_names_the_kind_of_shard_and_instance() -> None:
    shared = tuple(Stage(f"n{k}", 0, 79) for k in range(2))
    for engine, kind, shard in (("exo-tensor", "MlxJaccl", "Tensor"), ("exo-tensor-tcp", "MlxRing", "Tensor")):
        found = launch(plain(count=3), MODEL, Workload(engine=engine), shared)  # type: ignore[arg-type]
        assert f"{shard}ShardMetadata" in found.commands[0].text
        assert any(kind in note for note in found.notes)
