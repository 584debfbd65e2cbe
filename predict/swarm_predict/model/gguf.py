"""Read GGUF files into a ModelShape: what each layer holds is taken from its tensors, in the exact bytes of the
file."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final

from swarm_predict.errors import UnknownModel
from swarm_predict.model.blocks import Block, block_of
from swarm_predict.model.gguf_header import Buffer, Header, Tensor, read_header
from swarm_predict.model.kv_cache import CACHE_BYTES, Cache
from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import is_format
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.units import BITS_PER_BYTE

MAX_LAYERS: Final = 10_000
MAX_ELEMENTS: Final = 10_000_000
# general.file_type (llama.h, enum llama_ftype)
_FILE_TYPES: Final = {
    0: "fp32", 1: "fp16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s", 12: "q3_k_m",
    13: "q3_k_l", 14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k", 19: "iq2_xxs", 20: "iq2_xs",
    21: "q2_k_s", 22: "iq3_xs", 23: "iq3_xxs", 24: "iq1_s", 25: "iq4_nl", 26: "iq3_s", 27: "iq3_m", 28: "iq2_s",
    29: "iq2_m", 30: "iq4_xs", 31: "iq1_m", 32: "bf16", 36: "tq1_0", 37: "tq2_0", 38: "mxfp4",
    39: "nvfp4",
}  # fmt: skip
# Every n-th layer sees all, where the file does not list it (llama.cpp src/llama-model.cpp, set_swa_pattern).
_WINDOW_EVERY: Final = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "gpt-oss": 2, "llama4": 4, "exaone4": 4}
_LLAMA4_CHUNK: Final = 8192
_EXPERTS: Final = re.compile(r"ffn_(?:gate|up|down|gate_up)_exps")
_BLOCK: Final = re.compile(r"blk\.(\d+)\.(.+)")


def from_gguf(parts: Sequence[Buffer], name: str) -> ModelShape:
    """Return the model of the parts of one GGUF file, the first part first. Raises UnknownModel."""
    headers = [read_header(part, name) for part in parts]
    short = [i for i, header in enumerate(headers) if len(memoryview(parts[i])) < header.needs_bytes]
    shape = _Gguf(headers, name).shape()
    if not short:
        return shape
    from dataclasses import replace

    note = f"{name}: the file ends before its tensors do (an unfinished download?); sizes are those it should have"
    return replace(shape, notes=(*shape.notes, note))


class _Gguf:
    def __init__(self, headers: Sequence[Header], name: str) -> None:
        self.name = name
        self.meta = headers[0].metadata
        self.arch = str(self.meta.get("general.architecture", ""))
        if not self.arch:
            raise UnknownModel(f"{name}: the first part has no general.architecture; give the part -00001-of-…")
        said = self.meta.get("split.count", len(headers))
        if isinstance(said, int) and said > 1 and said != len(headers):
            raise UnknownModel(f"{name} is one part of {said}; put all parts beside each other and give the first")
        following = self.count("nextn_predict_layers")
        self.layers = self.need("block_count", MAX_LAYERS) - following
        if self.layers < 1:
            raise UnknownModel(f"{name}: the file has no layers")
        self.hidden = self.need("embedding_length")
        self.of_layer: dict[int, list[tuple[str, Tensor]]] = defaultdict(list)
        self.others: dict[str, Tensor] = {}
        for tensor in (t for header in headers for t in header.tensors):
            match = _BLOCK.fullmatch(tensor.name)
            if match is None:
                self.others[tensor.name] = tensor
            elif int(match[1]) < self.layers:
                self.of_layer[int(match[1])].append((match[2], tensor))

    # -- metadata

    def raw(self, key: str) -> Any:
        return self.meta.get(f"{self.arch}.{key}")

    def count(self, *keys: str, most: int = MAX_ELEMENTS) -> int:
        """Return the first of `keys` that is there (of an array: its largest entry); 0 if none is."""
        for key in keys:
            value = self.raw(key)
            if isinstance(value, list):
                value = max((v for v in value if isinstance(v, int)), default=0)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise UnknownModel(f"{self.name}: {self.arch}.{key} is {str(value)[:40]!r}, not a count up to {most}")
            return value
        return 0

    def need(self, key: str, most: int = MAX_ELEMENTS) -> int:
        value = self.count(key, most=most)
        if not value:
            raise UnknownModel(f"{self.name}: the file has no {self.arch}.{key}; is it a language model?")
        return value

    def at(self, key: str, layer: int, otherwise: int = 0) -> int:
        """Return the value of one layer, where the entry is an array."""
        value = self.raw(key)
        if isinstance(value, list):
            found = value[layer] if layer < len(value) else None
            return found if isinstance(found, int) and 0 <= found <= MAX_ELEMENTS else otherwise
        return self.count(key) or otherwise

    # -- the shape

    def shape(self) -> ModelShape:
        layer = self.usual_layer()
        weights = self.format()
        windows = self.windows()
        notes: tuple[str, ...] = ()
        known: dict[Block, Block] = {}
        found = []
        for i in range(self.layers):
            held = self.of_layer.get(i, [])
            block = self.block(i, held, windows[i], weights) if held else block_of(layer, windows[i])
            found.append(known.setdefault(block, block))
        missing = sum(1 for i in range(self.layers) if not self.of_layer.get(i))
        if missing:
            notes = (f"{self.name} has no tensors of {missing} of {self.layers} layers: they are counted by {weights}",)
        elif not any(block.caches or block.state_bytes for block in found):
            raise UnknownModel(
                f"{self.name}: no layer of {self.arch[:40]!r} has attention or a state; is it a decoder?"
            )
        embedding, head = self.others.get("token_embd.weight"), self.others.get("output.weight")
        beside = sum(t.size_bytes for n, t in self.others.items() if n.startswith("per_layer"))
        own = embedding is not None
        first = (embedding.size_bytes if embedding else 0) + beside
        last = (head or embedding).size_bytes if (head or embedding) else 0  # type: ignore[union-attr]
        return ModelShape(
            name=self.name,
            layers=self.layers,
            layer=layer,
            vocab=self.vocab(embedding),
            tied=head is None,
            window=max(windows),
            windowed_layers=sum(1 for window in windows if window),
            source=f"GGUF, {self.arch}",
            blocks=tuple(found),
            extra_params=sum(t.elements for n, t in self.others.items() if n.startswith("per_layer")),
            weights=weights,
            hidden_size=self.hidden,
            end_bytes=(float(first), float(last)) if own else None,
            notes=notes,
        )

    def vocab(self, embedding: Tensor | None) -> int:
        if embedding is not None and len(embedding.dims) == 2:
            return embedding.dims[1]
        tokens = self.meta.get("tokenizer.ggml.tokens")
        return self.count("vocab_size") or (tokens if isinstance(tokens, int) else 0) or self.need("vocab_size")

    def format(self) -> str:
        """Return the mixture's name as the file has it; else the format of most of its bytes."""
        given = self.meta.get("general.file_type")
        if isinstance(given, int) and given in _FILE_TYPES:
            return _FILE_TYPES[given]
        tensors = [t for held in self.of_layer.values() for _, t in held]
        elements = sum(t.elements for t in tensors)
        if not elements:
            return "fp16"
        name = f"{sum(t.size_bytes for t in tensors) * BITS_PER_BYTE / elements:.2f}bpw"
        return name if is_format(name) else "fp16"

    def block(self, i: int, held: list[tuple[str, Tensor]], window: int, weights: str) -> Block:
        names = {name.removesuffix(".weight").removesuffix(".bias") for name, _ in held}
        routed = [t for name, t in held if _EXPERTS.search(name) and len(t.dims) > 2]
        experts = self.count("expert_count") if routed else 0
        routed_bytes = sum(t.size_bytes for t in routed)
        shared = [t for name, t in held if name.startswith("ffn_") and len(t.dims) == 2 and "gate_inp" not in name]
        return Block(
            matrices=sum(t.elements for _, t in held if len(t.dims) > 1) - sum(t.elements for t in routed),
            mlp_matrices=sum(t.elements for t in shared),
            small=sum(t.elements for _, t in held if len(t.dims) < 2),
            experts=experts,
            experts_active=min(experts, self.count("expert_used_count")) if experts else 0,
            expert_matrices=sum(t.elements for t in routed) // experts if experts else 0,
            caches=self.caches(i, names, window),
            state_bytes=self.state_bytes(names),
            own_format=weights,
            own_bytes=float(sum(t.size_bytes for _, t in held)),
            own_expert_bytes=routed_bytes / experts if experts else 0.0,
        )

    def caches(self, i: int, names: set[str], window: int) -> tuple[Cache, ...]:
        heads = self.at("attention.head_count", i)
        if any(name.startswith("attn_kv_a") for name in names):
            rank, rope = self.need("attention.kv_lora_rank"), self.need("rope.dimension_count")
            key = self.count("attention.key_length_mla", "attention.key_length")
            value = self.count("attention.value_length_mla", "attention.value_length")
            found = [Cache(rank + rope, top_k=self.count("attention.indexer.top_k"), flops=2.0 * heads * (key + value))]
            if any(name.startswith("indexer") for name in names):
                width = self.need("attention.indexer.key_length")
                count = self.need("attention.indexer.head_count")
                found.append(Cache((width + 4) / 2, flops=2.0 * count * width))
            return tuple(found)
        linear = any(name.startswith(("ssm_", "shortconv")) for name in names)
        if not (names & {"attn_k", "attn_q"} or ("attn_qkv" in names and not linear)):
            return ()
        key, value = self.lengths(windowed=window > 0)
        kept = self.at("attention.head_count_kv", i, heads) * (key + value)
        return (Cache(kept if "attn_q" not in names or "attn_k" in names else 0.0, window=window,
                      flops=2.0 * heads * (key + value)),)  # fmt: skip

    def lengths(self, *, windowed: bool = False) -> tuple[int, int]:
        heads = self.need("attention.head_count")
        swa = ("attention.key_length_swa",) if windowed else ()
        key = self.count(*swa, "attention.key_length") or self.hidden // heads
        swa = ("attention.value_length_swa",) if windowed else ()
        return key, self.count(*swa, "attention.value_length") or self.hidden // heads

    def state_bytes(self, names: set[str]) -> float:
        taps = self.count("ssm.conv_kernel")
        if any(name.startswith("ssm_") for name in names):
            if dim := self.count("kda.head_dim"):  # Kimi Linear
                inner = self.need("attention.head_count") * dim
                return 4.0 * inner * dim + CACHE_BYTES * 3 * inner * max(0, taps - 1)
            inner, state = self.need("ssm.inner_size"), self.need("ssm.state_size")
            mixed = inner + 2 * self.count("ssm.group_count") * state
            return 4.0 * inner * state + CACHE_BYTES * mixed * max(0, taps - 1)
        if any(name.startswith("shortconv") for name in names):
            return float(CACHE_BYTES * self.hidden * max(0, self.need("shortconv.l_cache") - 1))
        return 0.0

    def windows(self) -> list[int]:
        window = self.count("attention.sliding_window")
        if self.arch == "llama4":
            window = self.count("attention.chunk_size", "attention.sliding_window") or _LLAMA4_CHUNK
        if not window:
            return [0] * self.layers
        pattern = self.raw("attention.sliding_window_pattern")
        if isinstance(pattern, list) and len(pattern) >= self.layers:
            return [window if pattern[i] else 0 for i in range(self.layers)]
        every = (
            pattern if isinstance(pattern, int) and not isinstance(pattern, bool) else _WINDOW_EVERY.get(self.arch, 0)
        )
        if every > 1:
            return [window if (i + 1) % every else 0 for i in range(self.layers)]
        return [window if self.arch in ("phi3", "starcoder2", "mistral", "llama") else 0] * self.layers

    def usual_layer(self) -> LayerShape:
        """Return what a probe times: by the metadata, with experts where most layers have them."""
        heads = self.count("attention.head_count")
        if not heads:  # state-space layers only
            heads = max(1, self.hidden // 64)
            return self._layer(heads, heads, 64, self.count("feed_forward_length") or self.hidden)
        kv_heads = self.most("attention.head_count_kv") or heads
        experts = self.count("expert_count")
        width = self.count("expert_feed_forward_length", "feed_forward_length") if experts else 0
        width = width or self.most("feed_forward_length") or 4 * self.hidden
        more: dict[str, Any] = {}
        if experts:
            active = min(experts, self.count("expert_used_count") or 1)
            shared = self.count("expert_shared_count")
            if wide := self.count("expert_shared_feed_forward_length"):
                shared = max(1, round(wide / width))
            more = {"experts": experts, "experts_active": active, "shared_experts": shared}
        if rank := self.count("attention.kv_lora_rank"):
            rope = self.need("rope.dimension_count")
            key = self.count("attention.key_length_mla", "attention.key_length")
            more |= {
                "kv_lora_rank": rank, "q_lora_rank": self.count("attention.q_lora_rank"), "rope_head_dim": rope,
                "v_head_dim": self.count("attention.value_length_mla", "attention.value_length"),
            }  # fmt: skip
            return self._layer(heads, heads, max(1, key - rope), width, **more)
        return self._layer(heads, kv_heads if heads % kv_heads == 0 else heads, self.lengths()[0], width, **more)

    def most(self, key: str) -> int:
        """Return the commonest entry that is not zero."""
        value = self.raw(key)
        if not isinstance(value, list):
            return self.count(key)
        counts = Counter(v for v in value if isinstance(v, int) and 0 < v <= MAX_ELEMENTS)
        return counts.most_common(1)[0][0] if counts else 0

    def _layer(self, heads: int, kv_heads: int, head_dim: int, width: int, **more: Any) -> LayerShape:
        held = [pair for pairs in self.of_layer.values() for pair in pairs]
        fused = any(name.startswith("ffn_up") and tensor.dims[-1] == 2 * width for name, tensor in held)
        gated = not held or fused or any("ffn_gate" in name for name, _ in held)
        kind = "deepseek" if more.get("kv_lora_rank") else "mixtral" if more.get("experts") else "llama"
        return LayerShape(
            architecture=kind,  # type: ignore[arg-type]
            hidden=self.hidden, intermediate=width, heads=heads, kv_heads=kv_heads, head_dim=head_dim, gated_mlp=gated,
            qk_norm=any("attn_q_norm" in name for name, _ in self.of_layer.get(0, [])), **more,
        )  # fmt: skip
