"""The layers are right: any split of a text into calls gives the same output, and the attention is what it claims."""

from __future__ import annotations

import math

import msgspec
import pytest

torch = pytest.importorskip("torch")

from swarm_probe.compute.layers.attention import GroupedAttention, LatentAttention, alibi_slopes  # noqa: E402 - torch first, or these tests are skipped
from swarm_probe.compute.layers.decoder_layer import DecoderLayer, UnsupportedShape, build_layers, check_shape  # noqa: E402
from swarm_probe.compute.layers.matrices import Linear, NoKernel, Weights  # noqa: E402
from swarm_probe.compute.layers.mlp import Experts, Mlp  # noqa: E402
from swarm_protocol.layer_shape import LayerShape  # noqa: E402

LLAMA = LayerShape(architecture="llama", hidden=32, intermediate=48, heads=4, kv_heads=2, head_dim=8)
SHAPES: dict[str, LayerShape] = {
    "llama": LLAMA,
    "llama with bias (Qwen)": msgspec.structs.replace(LLAMA, bias=True),
    "llama with normed heads (Qwen3)": msgspec.structs.replace(LLAMA, qk_norm=True),
    "gpt-oss": msgspec.structs.replace(
        LLAMA, architecture="mixtral", experts=4, experts_active=2, bias=True, sinks=True
    ),
    "deepseek": LayerShape(
        architecture="deepseek",
        hidden=32,
        intermediate=24,
        heads=4,
        kv_heads=4,
        head_dim=8,
        kv_lora_rank=16,
        q_lora_rank=12,
        rope_head_dim=4,
        v_head_dim=6,
        experts=4,
        experts_active=2,
        shared_experts=1,
    ),
    "deepseek without query rank": LayerShape(
        architecture="deepseek",
        hidden=32,
        intermediate=24,
        heads=4,
        kv_heads=4,
        head_dim=8,
        kv_lora_rank=16,
        rope_head_dim=4,
        v_head_dim=8,
    ),
    "mixtral": LayerShape(
        architecture="mixtral", hidden=32, intermediate=24, heads=4, kv_heads=2, head_dim=8, experts=4, experts_active=2
    ),
    "mixtral with a shared expert": LayerShape(
        architecture="mixtral",
        hidden=32,
        intermediate=24,
        heads=4,
        kv_heads=4,
        head_dim=8,
        experts=4,
        experts_active=1,
        shared_experts=1,
    ),
    "falcon": LayerShape(
        architecture="falcon", hidden=32, intermediate=64, heads=4, kv_heads=1, head_dim=8, gated_mlp=False
    ),
    "bloom": LayerShape(
        architecture="bloom", hidden=48, intermediate=64, heads=6, kv_heads=6, head_dim=8, gated_mlp=False, bias=True
    ),
    "gpt2": LayerShape(
        architecture="gpt2", hidden=32, intermediate=64, heads=4, kv_heads=4, head_dim=8, gated_mlp=False, bias=True
    ),
}
TOKENS = 13


def run(layers: list[DecoderLayer], x: torch.Tensor, pieces: list[int]) -> torch.Tensor:
    """The output of all layers for `x` cut into calls of these lengths."""
    caches = [layer.new_cache(x.shape[0], x.shape[1]) for layer in layers]
    out, position = [], 0
    for length in pieces:
        y = x[:, position : position + length]
        for layer, cache in zip(layers, caches, strict=True):
            y = layer.forward(y, cache, position)
        out.append(y)
        position += length
    assert position == x.shape[1]
    return torch.cat(out, dim=1)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("pieces", [[1] * TOKENS, [5, 8], [4, 1, 1, 7], [12, 1]], ids=str)
def test_any_split_of_a_text_gives_what_one_prefill_gives(shape: LayerShape, pieces: list[int]) -> None:
    layers = build_layers(shape, 3, capacity=TOKENS, dtype=torch.float64, device="cpu", seed=5)
    x = torch.randn(2, TOKENS, shape.hidden, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    whole = run(layers, x, [TOKENS])
    torch.testing.assert_close(run(layers, x, pieces), whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_later_token_changes_nothing_before_it(shape: LayerShape) -> None:
    layers = build_layers(shape, 2, capacity=TOKENS, dtype=torch.float64, device="cpu")
    x = torch.randn(1, TOKENS, shape.hidden, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    changed = x.clone()
    changed[:, 7] += 1.0
    before, after = run(layers, x, [TOKENS]), run(layers, changed, [TOKENS])
    torch.testing.assert_close(before[:, :7], after[:, :7], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(before[:, 7:], after[:, 7:])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_each_sequence_of_a_batch_is_on_its_own(shape: LayerShape) -> None:
    layers = build_layers(shape, 2, capacity=TOKENS, dtype=torch.float64, device="cpu")
    x = torch.randn(3, TOKENS, shape.hidden, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    together = run(layers, x, [TOKENS])
    torch.testing.assert_close(run(layers, x[1:2], [TOKENS]), together[1:2], rtol=1e-9, atol=1e-9)


TEXTBOOK = {name: shape for name, shape in SHAPES.items() if not (shape.kv_lora_rank or shape.qk_norm or shape.sinks)}


@pytest.mark.parametrize("shape", TEXTBOOK.values(), ids=TEXTBOOK.keys())
def test_attention_is_the_textbooks(shape: LayerShape) -> None:
    """Head by head and token by token, without any fused kernel, cache or grouping."""
    (layer,) = build_layers(shape, 1, capacity=TOKENS, dtype=torch.float64, device="cpu")
    x = torch.randn(1, TOKENS, shape.hidden, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        found = layer.attention.forward(x, layer.new_cache(1, TOKENS), 0)
    torch.testing.assert_close(found[0], _textbook_attention(layer, x[0]), rtol=1e-9, atol=1e-9)


def _textbook_attention(layer: DecoderLayer, x: torch.Tensor) -> torch.Tensor:
    shape, attention = layer.shape, layer.attention
    assert isinstance(attention, GroupedAttention)
    rows = attention.qkv(x)
    heads = rows.view(TOKENS, -1, shape.head_dim)
    out = torch.zeros(TOKENS, shape.heads, shape.head_dim, dtype=x.dtype)
    for h in range(shape.heads):
        k_at = shape.heads + h // (shape.heads // shape.kv_heads)
        for t in range(TOKENS):
            scores = []
            for s in range(t + 1):
                q, k = heads[t, h], heads[s, k_at]
                if attention.rope is not None:
                    q, k = _turned(q, t), _turned(k, s)
                score = float(q @ k) / math.sqrt(shape.head_dim)
                if shape.architecture == "bloom":
                    score += float(alibi_slopes(shape.heads)[h]) * (s - t)
                scores.append(score)
            shares = torch.softmax(torch.tensor(scores, dtype=x.dtype), dim=0)
            out[t, h] = sum(shares[s] * heads[s, k_at + shape.kv_heads] for s in range(t + 1))
    return attention.out(out.view(TOKENS, -1))


def _turned(x: torch.Tensor, position: int) -> torch.Tensor:
    """RoPE as pairs of complex numbers (i, i + half)."""
    half = len(x) // 2
    angles = torch.tensor([position * 10_000.0 ** (-i / half) for i in range(half)], dtype=torch.float64)
    turned = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag))


def test_routed_experts_are_the_chosen_ones_weighted_by_their_scores() -> None:
    shape = SHAPES["mixtral"]
    (layer,) = build_layers(shape, 1, capacity=4, dtype=torch.float64, device="cpu")
    x = torch.randn(1, 4, shape.hidden, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert isinstance(layer.mlp, Experts)
    with torch.inference_mode():
        found = layer.mlp.forward(x)[0]
        for t in range(4):
            scores = layer.mlp.router(x[0, t])
            best = torch.argsort(scores, descending=True)[:2].tolist()
            shares = torch.softmax(scores[best], dim=0)
            wanted = sum(share * layer.mlp.experts[e].forward(x[0, t]) for share, e in zip(shares, best, strict=True))
            torch.testing.assert_close(found[t], wanted, rtol=1e-9, atol=1e-9)


def test_alibi_slopes_are_the_published_ones() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-n for n in range(1, 9)]
    # 12 heads: the 8 above, then every other one of the series for 16
    assert alibi_slopes(12).tolist()[8:] == [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5]


def test_two_machines_that_hold_halves_hold_the_same_model() -> None:
    whole = build_layers(LLAMA, 4, capacity=4, dtype=torch.float32, device="cpu", seed=10)
    half = build_layers(LLAMA, 2, capacity=4, dtype=torch.float32, device="cpu", seed=12)
    assert torch.equal(_first(whole[2]), _first(half[0]))
    assert not torch.equal(_first(whole[0]), _first(whole[1]))


def _first(layer: DecoderLayer) -> torch.Tensor:
    assert isinstance(layer.attention, GroupedAttention)
    return layer.attention.qkv.weight


def test_a_layer_has_the_parameters_the_predictor_counts() -> None:
    """Norms, biases and tables left out on both sides."""
    for shape in SHAPES.values():
        (layer,) = build_layers(shape, 1, capacity=2, dtype=torch.float32, device="cpu")
        counted = sum(matrix.numel() for matrix in _matrices(layer))
        assert counted == shape.params, shape


def _matrices(layer: DecoderLayer) -> list[torch.Tensor]:
    parts: list[object] = [*vars(layer.attention).values()]
    if isinstance(layer.mlp, Experts):
        parts.append(layer.mlp.router)
    mlps = [layer.mlp] if isinstance(layer.mlp, Mlp) else [*layer.mlp.experts, *layer.mlp.shared]
    parts += [part for mlp in mlps for part in (mlp.up, mlp.down)]
    found = [part.weight for part in parts if isinstance(part, Linear)]
    return found + ([layer.attention.kv_up] if isinstance(layer.attention, LatentAttention) else [])


def test_large_matrices_are_random_everywhere() -> None:
    matrix = Weights(1, torch.float32, "cpu").matrix(1500, 1000)
    assert not torch.equal(matrix[0], matrix[1049])
    assert abs(float(matrix.std()) * math.sqrt(1000) - 1.0) < 0.01
    assert not bool((matrix[-1] == 0).any())


def test_a_cache_too_small_is_refused() -> None:
    (layer,) = build_layers(LLAMA, 1, capacity=4, dtype=torch.float32, device="cpu")
    with pytest.raises(ValueError, match=r"^the cache holds 2 tokens, 3 are needed$"):
        layer.forward(torch.zeros(1, 3, 32), layer.new_cache(1, 2), 0)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"architecture": "deepseek"}, "a deepseek layer has no kv_lora_rank of 0"),
        ({"kv_lora_rank": 512}, "a llama layer has no kv_lora_rank of 512"),
        ({"architecture": "deepseek", "kv_lora_rank": 512}, "latent attention with ranks and heads"),
        ({"hidden": 0}, "cannot be built"),
        ({"hidden": 1 << 40}, "cannot be built"),
        ({"heads": 3}, "3 heads cannot share 2 KV heads evenly"),
        ({"head_dim": 7}, "RoPE needs an even head_dim, not 7"),
        ({"architecture": "mixtral"}, "0 active of 0 experts makes no routed layer"),
    ],
)
def test_a_shape_that_is_no_layer_of_ours_is_named(change: dict[str, object], line: str) -> None:
    with pytest.raises(UnsupportedShape, match=line):
        check_shape(msgspec.structs.replace(LLAMA, **change))


@pytest.mark.parametrize(("name", "rounding"), [("int8", 0.01), ("int4_g128", 0.12)])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_quantised_matrix_multiplies_like_the_matrix_it_was_made_of(name: str, rounding: float, rows: int) -> None:
    try:
        packed = Weights(1, torch.bfloat16, "cpu", name).linear(256, 384, bias=True)
    except NoKernel as error:
        pytest.skip(str(error))
    plain = Weights(1, torch.bfloat16, "cpu").linear(256, 384, bias=True)
    x = torch.randn(2, rows, 384, generator=torch.Generator().manual_seed(2)).bfloat16()
    off = (packed(x).float() - plain(x).float()).norm() / plain(x).float().norm()
    assert 0 < float(off) < rounding
    assert packed.weight.numel() == 0


def test_a_format_without_a_kernel_says_so() -> None:
    with pytest.raises(NoKernel, match=r"^int4_g128 needs columns in groups of 128, not 96$"):
        Weights(1, torch.bfloat16, "cpu", "int4_g128").linear(256, 96)
