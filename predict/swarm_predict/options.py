"""The values that the options of a question take: engines, all-reduces, objectives. Light to import."""

from __future__ import annotations

from typing import Literal

Engine = Literal[
    "chain", "star", "ring", "petals", "petals-push", "llama.cpp", "vllm", "parallax", "exo", "prima.cpp",
    "tensor-parallel", "hybrid",
]  # fmt: skip
AllReduce = Literal["doubling", "ring", "tree", "mesh"]
Objective = Literal["latency", "throughput"]
Cause = Literal["rtt", "jitter", "upload", "compute", "memory", "overhead"]
GGUF_ENGINES = ("llama.cpp", "prima.cpp", "mesh-llm")  # their MXFP4 files keep the rest in q8_0, not in 16 bits
Role = Literal["in", "spare", "out"]  # of a node: in the placement that runs; could serve; cannot
