"""Read the table of published results, with their machines and sources.

`read_table` takes the text of `published.toml`, or of another file in its form (`python -m bench priors --table FILE`).
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from swarm_predict.model.catalogue import model_named
from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import weight_format
from swarm_predict.types import PredictError
from swarm_protocol.layer_shape import LayerShape

Positive = Annotated[float, Meta(gt=0)]
Metric = Literal["decode", "prompt"]
PROMPT_TOKENS = 512


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"device_class": "class"}):
    device_class: str
    mem_gbps: Positive
    tflops: Positive


class _Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool


class _System(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    nodes: tuple[str, ...]
    engine: str = ""
    software: str = ""  # the program, if the engine is only a pattern; empty: the engine
    activations: Literal["fp16", "fp32", "int8"] | None = None
    cards: int = 1  # in one host; whether they split every layer is the engine's affair
    host: str = ""  # class of the host, if it is unusual for such a card
    split: tuple[int, ...] = ()  # layers of each node; empty: even
    layer_ms: tuple[float, ...] = ()  # of each node, if it was measured alone (including the LM head)
    rtt_ms: float = 0.0
    mbps: float = 0.0
    decode: dict[str, Positive] = {}
    prompt: dict[str, Positive] = {}


class _Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    licence: str
    system: tuple[_System, ...]
    engine: str = ""
    software: str = ""
    activations: Literal["fp16", "fp32", "int8"] = "fp16"
    context: int = 128
    batch: int = 1
    layers: int | None = None  # how many were timed; None: the whole model


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: tuple[_Source, ...]
    device: dict[str, Device] = {}
    model: dict[str, _Shape] = {}


@dataclass(frozen=True, slots=True)
class Result:
    """One published speed."""

    source: str
    system: str
    engine: str
    software: str
    model: ModelShape
    weights: str
    metric: Metric
    tokens_per_s: float
    nodes: tuple[str, ...]
    devices: tuple[Device, ...]
    split: tuple[int, ...]
    layer_ms: tuple[float, ...]
    host: str
    cards: int
    rtt_ms: float
    mbps: float
    activations: Literal["fp16", "fp32", "int8"]
    context: int
    batch: int

    @property
    def measured_ms(self) -> float:
        """Return the milliseconds of one decode step, or of the whole prompt."""
        return (1e3 if self.metric == "decode" else 1e3 * PROMPT_TOKENS) / self.tokens_per_s

    @property
    def label(self) -> str:
        return f"{self.system}: {self.model.name} {self.weights} {self.metric}"


def published() -> tuple[Result, ...]:
    return read_table(importlib.resources.files("swarm_predict.priors").joinpath("published.toml").read_text("utf-8"))


def read_table(text: str, known: dict[str, Device] | None = None) -> tuple[Result, ...]:
    """Read the table. `known`: devices that the text may name without describing them. Raises PredictError."""
    try:
        file = msgspec.toml.decode(text.encode(), type=_File)
    except msgspec.DecodeError as error:
        raise PredictError(f"this is not a table of published results: {error}") from error
    shapes = {name: _model(name, shape) for name, shape in file.model.items()}
    devices = {**(known or {}), **file.device}
    return tuple(result for source in file.source for result in _of_source(source, devices, shapes))


def devices() -> dict[str, Device]:
    """Return the devices of the product's own table, by name."""
    text = importlib.resources.files("swarm_predict.priors").joinpath("published.toml").read_bytes()
    return msgspec.toml.decode(text, type=_File).device


def _of_source(source: _Source, devices: dict[str, Device], shapes: dict[str, ModelShape]) -> Iterator[Result]:
    for system in source.system:
        missing = [name for name in system.nodes if name not in devices]
        if missing:
            raise PredictError(f"{system.name}: no device is called {missing[0]!r}; describe it under [device]")
        engine = system.engine or source.engine
        if not engine:
            raise PredictError(f"{system.name}: the engine that ran is not given; write engine = …")
        speeds: tuple[tuple[Metric, dict[str, float]], ...] = (("decode", system.decode), ("prompt", system.prompt))
        for metric, found in speeds:
            for key, tokens_per_s in found.items():
                name, _, weights = key.partition(" ")
                weight_format(weights)
                shape = shapes.get(name) or model_named(name)
                yield Result(
                    source=source.name,
                    system=system.name,
                    engine=engine,
                    software=system.software or source.software or engine,
                    model=shape if source.layers is None else _part(shape, source.layers),
                    weights=weights,
                    metric=metric,
                    tokens_per_s=tokens_per_s,
                    nodes=system.nodes,
                    devices=tuple(devices[name] for name in system.nodes),
                    split=system.split or _even(shape.layers if source.layers is None else source.layers, system.nodes),
                    layer_ms=system.layer_ms,
                    host=system.host,
                    cards=system.cards,
                    rtt_ms=system.rtt_ms,
                    mbps=system.mbps,
                    activations=system.activations or source.activations,
                    context=source.context if metric == "decode" else PROMPT_TOKENS,
                    batch=source.batch,
                )


def _even(layers: int, nodes: tuple[str, ...]) -> tuple[int, ...]:
    share, more = divmod(layers, len(nodes))
    return tuple(share + (k < more) for k in range(len(nodes)))


def _part(shape: ModelShape, layers: int) -> ModelShape:
    """Return some layers alone, without embedding and head."""
    return ModelShape(shape.name, layers, shape.layer, 1, tied=True, window=shape.window)


def _model(name: str, shape: _Shape) -> ModelShape:
    layer = LayerShape(
        architecture="llama",
        hidden=shape.hidden,
        intermediate=shape.intermediate,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
    )
    return ModelShape(name, shape.layers, layer, shape.vocab, shape.tied)
