"""KV caches of fewer bits: what they take, what a step reads, which engines have them, and how they are named."""

from __future__ import annotations

import shlex

import pytest
from boxes import Box, swarm_of
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.cost.engines import ENGINES
from swarm_predict.forecast.prediction import predict
from swarm_predict.launch.commands import launch
from swarm_predict.model.catalogue import model_named
from swarm_predict.model.kv_cache_formats import CACHE_BITS, CACHES_OF, check_kv_cache, with_kv_cache
from swarm_predict.options import KV_CACHES
from swarm_predict.placement import parse_placement
from swarm_predict.types import PredictError, Workload

LLAMA = model_named("llama-3.1-8b")
MODELS = ("llama-3.1-8b", "gemma-2-9b", "deepseek-v3", "gpt-oss-20b", "mixtral-8x7b")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cache", KV_CACHES)
def test_only_the_cache_shrinks_and_by_its_bits(name: str, cache: str) -> None:
    model = model_named(name)
    other = with_kv_cache(model, cache)
    share = CACHE_BITS[cache] / 16
    for tokens in (1, 500, 100_000):
        assert other.kv_bytes(tokens) == pytest.approx(share * model.kv_bytes(tokens))
    assert other.kv_bytes_per_token(3) == pytest.approx(share * model.kv_bytes_per_token(3))
    read, plain = (each.bytes_touched("fp16", 4, 9_000) - each.weights_touched("fp16", 4) for each in (other, model))
    state = 4 * 2 * model.state_bytes()
    assert read - state == pytest.approx(share * (plain - state))
    assert other.state_bytes() == model.state_bytes()
    assert other.layer_bytes("q4_k_m") == model.layer_bytes("q4_k_m")
    assert other.decode_flops(1, 9_000) == model.decode_flops(1, 9_000)
    assert other.params == model.params
    assert other.timed_as_is == model.timed_as_is


@given(st.sampled_from(KV_CACHES), st.sampled_from(KV_CACHES))
def test_a_format_replaces_another_one(first: str, then: str) -> None:
    twice = with_kv_cache(with_kv_cache(LLAMA, first), then)
    assert twice.kv_bytes(1000) == pytest.approx(with_kv_cache(LLAMA, then).kv_bytes(1000))
    assert twice.kv_cache == then


def test_a_format_that_is_none_and_an_engine_without_it_are_refused() -> None:
    with pytest.raises(PredictError, match="--kv-cache 'int3' is not a known format; choose one of f16, q8_0"):
        with_kv_cache(LLAMA, "int3")
    small, plain = with_kv_cache(LLAMA, "q4_0"), swarm_of([Box("a"), Box("b")])
    with pytest.raises(PredictError, match="petals has no KV cache in q4_0: it keeps 16 bits"):
        check_kv_cache(small, "petals")
    with pytest.raises(PredictError, match="vllm has no KV cache in q4_0: it has f16, fp8"):
        predict(plain, small, parse_placement("a:0-15,b:16-31", small, plain), Workload(engine="vllm"))
    for engine in ENGINES:
        check_kv_cache(LLAMA, engine)
    assert set(CACHES_OF) <= set(ENGINES)


def test_smaller_caches_make_room_for_long_contexts_and_are_read_faster() -> None:
    swarm = swarm_of([Box("a", vram_gib=24.0, mem_gbps=900.0, layers=())], None)
    placement = parse_placement("a:0-31", LLAMA, swarm)
    load = Workload(context=8_192, batch=16)
    found = {
        cache: predict(swarm, with_kv_cache(LLAMA, cache), placement, load) for cache in ("f16", "q8_0", "q4_0", "fp8")
    }
    assert {cache: each.fits for cache, each in found.items()} == {
        "f16": False, "q8_0": True, "q4_0": True, "fp8": True,
    }  # fmt: skip
    saved = {cache: found["f16"].tpot_ms.p50 - each.tpot_ms.p50 for cache, each in found.items()}
    cache_ms = 16 * 32 * LLAMA.kv_bytes(8_192) / 900e6
    assert saved["q8_0"] == pytest.approx(cache_ms * (1 - 8.5 / 16), rel=0.35)
    assert saved["q4_0"] > saved["fp8"] > saved["q8_0"]


@pytest.mark.parametrize(
    ("engine", "cache", "program", "words"),
    [
        ("llama.cpp", "q4_0", "llama-server", "-fa on -ctk q4_0 -ctv q4_0"),
        ("vllm", "fp8", "vllm serve", "--kv-cache-dtype fp8"),
        ("vllm-tp", "fp8", "vllm serve", "--kv-cache-dtype fp8"),
        ("sglang", "fp8", "sglang.launch_server", "--kv-cache-dtype fp8_e5m2"),
    ],
)
def test_launch_lines_ask_for_the_cache(engine: str, cache: str, program: str, words: str) -> None:
    swarm = swarm_of([Box("a"), Box("b")])
    text = "a:0-31,b:0-31" if engine == "vllm-tp" else "a:0-15,b:16-31"
    load = Workload(engine=engine)  # type: ignore[arg-type]
    placement = parse_placement(text, LLAMA, swarm, load.engine)
    for model, asked in ((with_kv_cache(LLAMA, cache), True), (LLAMA, False)):
        lines = [each.text for each in launch(swarm, model, load, placement).commands if program in each.text]
        assert lines
        assert all((words in " ".join(shlex.split(line))) == asked for line in lines)


def test_an_engine_that_stands_for_a_pattern_says_that_it_keeps_sixteen_bits() -> None:
    swarm = swarm_of([Box("a"), Box("b")])
    small = with_kv_cache(LLAMA, "q4_0")
    found = launch(swarm, small, Workload(), parse_placement("a:0-15,b:16-31", small, swarm))
    assert "parallax has no KV cache in q4_0: it keeps 16 bits, more than was counted" in found.warnings
