"""Define the values that options of a question take: engines, all-reduces, objectives. Light to import."""

from __future__ import annotations

from typing import Literal

Engine = Literal[
    "chain", "star", "ring", "petals", "llama.cpp", "mesh-llm", "shard", "vllm", "vllm-tp", "sglang", "sglang-tp",
    "parallax", "exo", "exo-0", "exo-rdma", "exo-tensor", "exo-tensor-tcp", "mlx", "mlx-tensor", "prima.cpp",
    "distributed-llama", "tensor-parallel", "hybrid",
]  # fmt: skip
AllReduce = Literal["doubling", "ring", "tree", "mesh", "gloo"]
Objective = Literal["latency", "throughput"]
Cause = Literal["rtt", "jitter", "upload", "compute", "memory", "overhead"]
GGUF_ENGINES = ("llama.cpp", "prima.cpp", "mesh-llm")  # their MXFP4 files keep the rest in q8_0, not in 16 bits
Role = Literal["in", "spare", "out"]  # of a node: in the placement that runs; could serve; cannot
KV_CACHES = ("f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "fp8")  # as llama.cpp and vLLM call them
