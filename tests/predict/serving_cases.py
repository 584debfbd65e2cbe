"""Swarms and cases of many users that the tests of this folder share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from serving_events import Service

from swarm_predict.model.catalogue import model_named
from swarm_predict.serving.lengths import Lengths, exactly, lognormal
from swarm_predict.serving.routes.route import Prompts, Route, Station
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm

MODEL = model_named("llama-3.1-8b")
NODE = """
[[node]]
name = "{name}"
vram_gib = {vram}
mem_gbps = 900.0
tflops = {tflops}
up_mbps = {up}
down_mbps = 1000.0
"""
LINK = """
[[link]]
from = "*"
to = "*"
rtt_ms = {rtt}
"""


def node(name: str, *, vram: float = 24.0, up: float = 100.0, tflops: float = 100.0) -> str:
    return NODE.format(name=name, vram=vram, up=up, tflops=tflops)


def swarm_of(*names: str, vram: float = 24.0, up: float = 100.0, rtt: float = 20.0, tflops: float = 100.0) -> Swarm:
    nodes = "".join(node(name, vram=vram, up=up, tflops=tflops) for name in names)
    return parse_swarm(nodes + LINK.format(rtt=rtt))


@dataclass(frozen=True)
class Case:
    """Stations that take fixed + each · sequences to decode, and token · tokens of a prompt, in ms."""

    fixed: tuple[float, ...]
    each: tuple[float, ...]
    token: tuple[float, ...]
    between: tuple[float, ...]
    prompt: Lengths
    generate: Lengths
    chunk: int
    micro_batches: int
    most: int

    def route(self) -> Route:
        lengths = np.array(self.prompt.thinned(24).values)
        passes = np.maximum(1, np.ceil(lengths / self.chunk)) if self.chunk else np.ones_like(lengths)
        sizes = np.array([0, 1, self.most], np.float64)
        decode = [[0.0] * len(self.fixed)] + [
            [f + e * size for f, e in zip(self.fixed, self.each, strict=True)] for size in sizes[1:]
        ]
        mean = passes.mean() + self.generate.mean - 1
        variance = passes.var() + self.generate.square - self.generate.mean**2
        return Route(
            stations=tuple(Station(f"s{k}", "machine") for k in range(len(self.fixed))),
            between_ms=sum(self.between),
            sizes=sizes,
            decode_ms=np.array(decode),
            prompts=Prompts(lengths, passes, (lengths / passes)[:, None] * np.array(self.token)[None, :]),
            decode_passes=self.generate.mean - 1,
            passes_scv=float(variance / mean**2),
            most_sequences=self.most,
            micro_batches=self.micro_batches,
        )

    def services(self) -> list[Service]:
        def service(fixed: float, each: float, token: float) -> Service:
            return lambda decoding, tokens: (fixed + each * decoding if decoding else 0.0) + token * tokens

        return [service(*each) for each in zip(self.fixed, self.each, self.token, strict=True)]


CASES = {
    "one machine, lengths alike": Case((20,), (0.5,), (0.1,), (0,), exactly(256), exactly(40), 512, 1, 32),
    "four stages far apart, prompts in parts": Case(
        (20,) * 4, (0.5,) * 4, (0.1,) * 4, (20,) * 4, lognormal(256, 1000), lognormal(40, 160), 128, 8, 64
    ),
    "four stages far apart, whole prompts": Case(
        (20,) * 4, (0.5,) * 4, (0.1,) * 4, (20,) * 4, lognormal(256, 1000), lognormal(40, 160), 0, 8, 64
    ),
    "uneven stages": Case(
        (20, 35, 10), (0.5, 0.7, 0.2), (0.1, 0.2, 0.05), (10, 30, 5), lognormal(512, 2000), lognormal(60, 150), 256,
        6, 48,
    ),
    "prompts that take many decode steps": Case(
        (35, 34), (5, 3), (4.3, 2.4), (0.5, 0.5), lognormal(256, 800), lognormal(60, 200), 256, 3, 48
    ),
    "long prompts, few places": Case(
        (20, 25), (0.2, 0.2), (0.2, 0.2), (40, 40), lognormal(1000, 4000), lognormal(50, 200), 512, 4, 8
    ),
}  # fmt: skip
