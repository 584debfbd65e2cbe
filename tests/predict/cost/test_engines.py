"""What each engine puts on the wire and where it keeps embedding and LM head, as their sources have it."""

from __future__ import annotations

import pytest
from boxes import Box, even, swarm_of

from swarm_predict.cost.engines import ENGINES
from swarm_predict.cost.machine.memory import needs
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import Prediction, Workload

LLAMA70, FALCON = model_named("llama-2-70b"), model_named("falcon-180b")
NAMES = ("a", "b", "c")


def ask(engine: str, *, client: str | None = None, mbps: float = 100.0, rtt_ms: float = 20.0) -> Prediction:
    boxes = [Box(n, vram_gib=200, up_mbps=mbps, down_mbps=mbps) for n in NAMES]
    boxes.append(Box("home", vram_gib=None, up_mbps=mbps, down_mbps=mbps, layers=(), mem_gbps=1e9))
    swarm = swarm_of(boxes, rtt_ms)
    placement = parse_placement(even(NAMES, 80), LLAMA70, swarm, engine)
    return predict(swarm, LLAMA70, placement, Workload(engine=engine, client=client))  # type: ignore[arg-type]


def test_vllm_hands_on_a_residual_only_where_the_model_has_a_fused_add_and_norm():
    vllm = ENGINES["vllm"]
    assert vllm.hop_bytes(LLAMA70, 1, "fp16") == 2 * 16384
    assert vllm.hop_bytes(FALCON, 1, "fp16") == FALCON.hidden * 2
    assert vllm.hop_bytes(model_named("starcoder2-15b"), 1, "fp16") == 6144 * 2


def test_a_star_pays_two_trips_a_server_and_pushing_servers_one():
    """Three servers, a client across the network: six one-way trips or four; mesh-llm returns 32-bit logits."""
    star = ask("petals", client="home").breakdown_ms.network
    assert star == pytest.approx(6 * (10 + 16384 * 8 / 100e3))
    pushed = ask("mesh-llm", client="home").breakdown_ms.network
    assert pushed == pytest.approx(4 * 10 + 3 * 32768 * 8 / 100e3 + 32000 * 4 * 8 / 100e3)


def test_the_coordinator_of_shard_sends_token_ids_and_gets_tokens_back():
    assert ask("shard", client="home").breakdown_ms.network == pytest.approx(4 * 10 + (2 * 16384 + 4 + 4) * 8 / 100e3)


def test_the_ring_of_exo_returns_the_activation_to_all_and_each_rank_holds_both_ends():
    facts = ENGINES["exo"]
    assert facts.result_bytes(LLAMA70, 1, "fp16") == 16384
    ends = LLAMA70.embedding_bytes("fp16") + LLAMA70.head_bytes("fp16")
    need, chain = (needs(LLAMA70, Workload(engine=e), ENGINES[e]) for e in ("exo", "chain"))  # type: ignore[arg-type]
    assert need.stage_bytes(10, 19) == pytest.approx(chain.stage_bytes(10, 19) + ends)
    assert need.stage_bytes(0, 9) == need.stage_bytes(10, 19) == need.stage_bytes(70, 79)


@pytest.mark.parametrize("engine", ["vllm", "parallax", "sglang"])
def test_a_client_that_stock_engines_do_not_have_in_the_loop_is_reported(engine):
    said = [note for note in ask(engine, client="home").notes if "is assumed to drive the loop" in note]
    assert len(said) == 1
    assert not any("drive the loop" in note for note in ask(engine).notes)


def test_every_engine_names_its_sources():
    assert all(facts.sources and all(len(source) > 20 for source in facts.sources) for facts in ENGINES.values())


def test_a_server_of_llama_cpp_is_sent_its_activation_a_mask_as_wide_as_the_cache_and_heads():
    """Captured at a hidden size of 1024 and a cache of 256: 6.5 kB a token, of which the activation is 4.1, in 24
    packets."""
    facts = ENGINES["llama.cpp"]
    received = [4 * 1024 + facts.input_bytes(1, context) for context in (200, 255, 256, 4000)]
    heads = 20 * 52
    assert received[0] == received[1] == 4096 + 1924 + heads + 2 * 256
    assert received[2] - received[1] == 2 * 256
    assert received[3] == 4096 + 1924 + heads + 2 * 4096
    assert ENGINES["star"].input_bytes(1, 300) == 0
