"""Compute one stage, and a star's client: embedding, layers with a KV cache, LM head.

The layers are those that the probes time. Weights come from the seed and the layer's number alone, so that any split
of the model over processes gives the same tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it

from swarm_lab.engine.config import EngineShape
from swarm_lab.engine.framing import Body, Message
from swarm_probe.compute.layers.decoder_layer import NORM_EPS, KVCache, Weights, build_layers

_FORMATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_EMBEDDING_SEED, _HEAD_SEED = 1_000_003, 1_000_033  # far from the layers' own: seed + number


class StageCompute:
    """Layers `first`..`last` of the model, with embedding before or head after them where this stage has those."""

    def __init__(self, shape: EngineShape, first: int, last: int, threads: int) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._shape = shape
        self._dtype = _FORMATS[shape.dtype]
        self._layers = build_layers(
            shape.layer,
            last - first + 1,
            capacity=shape.capacity,
            dtype=self._dtype,
            device="cpu",
            seed=shape.seed + first,
        )
        self._caches: list[KVCache] = []
        self._ends = Ends(shape, threads)
        self._has_head = shape.head_at == "last" and last == shape.layers - 1

    def reset(self) -> None:
        self._caches = []

    def step(self, message: Message) -> tuple[Body, bytes]:
        """Return the output for tokens or activations at `message.position`; sampled ids where this stage has the
        head."""
        data = message.data
        if message.body is Body.TOKENS:
            data = self._ends.embed(data, message.batch)
        hidden = self._ends.unpack(data, message.batch)
        if not self._caches:
            self._caches = [layer.new_cache(message.batch, self._shape.capacity) for layer in self._layers]
        for layer, cache in zip(self._layers, self._caches, strict=True):
            hidden = layer.forward(hidden, cache, message.position)
        if self._has_head:
            # of a prompt the last position counts; of what is decoded or verified every one
            return Body.TOKENS, self._ends.sample_hidden(hidden if message.step else hidden[:, -1:])
        return Body.ACTIVATION, self._ends.pack(hidden)


class Ends:
    """Embedding and LM head, and activations to bytes and back. The matrices are made on first use."""

    def __init__(self, shape: EngineShape, threads: int) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._shape = shape
        self._dtype = _FORMATS[shape.dtype]
        self._wire = _FORMATS[shape.activations]
        self._embedding: torch.Tensor | None = None
        self._head: torch.Tensor | None = None

    def embed(self, ids: bytes, batch: int) -> bytes:
        """Turn int32 ids (batch, tokens) into packed activations."""
        if self._embedding is None:
            self._embedding = self._matrix(_EMBEDDING_SEED)
        tokens = torch.frombuffer(bytearray(ids), dtype=torch.int32).view(batch, -1)
        return self.pack(self._embedding[tokens.long()])

    def sample(self, data: bytes, batch: int) -> bytes:
        """Return the likeliest id after the last position of each sequence, int32 (batch,)."""
        return self.sample_hidden(self.unpack(data, batch)[:, -1:])

    def sample_hidden(self, hidden: torch.Tensor) -> bytes:
        """Return the likeliest id after each position, int32 (batch, tokens)."""
        if self._head is None:
            self._head = self._matrix(_HEAD_SEED)
        normed = F.rms_norm(hidden, (self._shape.layer.hidden,), eps=NORM_EPS)
        chosen = F.linear(normed, self._head).argmax(dim=-1).to(torch.int32)
        return bytes(chosen.numpy().tobytes())

    def pack(self, hidden: torch.Tensor) -> bytes:
        return bytes(hidden.to(self._wire).contiguous().view(torch.uint8).numpy().tobytes())

    def unpack(self, data: bytes, batch: int) -> torch.Tensor:
        """Return (batch, tokens, hidden)."""
        flat = torch.frombuffer(bytearray(data), dtype=self._wire)
        return flat.view(batch, -1, self._shape.layer.hidden).to(self._dtype)

    def _matrix(self, seed: int) -> torch.Tensor:
        weights = Weights(self._shape.seed + seed, self._dtype, "cpu")
        return weights.matrix(self._shape.vocab, self._shape.layer.hidden)
