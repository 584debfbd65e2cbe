"""How each engine moves a token: who talks to whom, with how many bytes, and who computes the LM head.

One frozen record an engine, a source for each figure. `build` prices the pattern, `commands` writes the commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Engine, PredictError, Workload

TOKEN_BYTES: Final = 4  # one token id
LOGIT_BYTES: Final = 4  # fp32
UNFUSED: Final = frozenset({"bloom", "falcon", "gpt2"})  # no residual travels beside the hidden states

Pattern = Literal["chain", "star", "all-reduce"]
HeadAt = Literal["last", "client", "first", "shared"]


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """The properties of an engine that decide its time per token."""

    name: Engine
    pattern: Pattern
    client_in_loop: bool  # False: the first stage drives the loop (a ring); a named client only reads the text
    head: HeadAt  # who computes the logits
    embedding: Literal["first", "client", "shared"]
    result: Literal["token", "activation", "logits"]  # what the last stage sends on
    tensors: int = 1  # activation-sized tensors in each message
    tensors_unfused: int | None = None  # the same for models without a fused add and norm; None: as the others
    activation_bytes: int | None = None  # a fixed width; None: as the workload says
    copies_to_client: bool = False  # every stage hands its output to the client as well
    ends_everywhere: bool = False  # embedding and LM head lie on every stage
    drives: Literal["client", "first"] = "client"  # stock; who differs is told so where a client is named
    sources: tuple[str, ...] = ()

    def hop_bytes(self, model: ModelShape, batch: int, activations: str) -> float:
        """Return the bytes that a stage sends to the next (or to the client) for one token of each sequence."""
        size = model.hop_bytes(batch, activations)
        if self.activation_bytes is not None:
            size = float(batch * model.hidden * self.activation_bytes)
        unfused = self.tensors_unfused is not None and model.layer.architecture in UNFUSED
        return size * (self.tensors_unfused if unfused and self.tensors_unfused else self.tensors)

    def enter_bytes(self, model: ModelShape, batch: int, activations: str) -> float:
        """Return the bytes that the client sends to a stage: a token id if stages hold the embedding, else its row."""
        if self.pattern == "star" or self.embedding == "client":
            return self.hop_bytes(model, batch, activations)
        return float(batch * TOKEN_BYTES)

    def result_bytes(self, model: ModelShape, batch: int, activations: str) -> float:
        if self.result == "token":
            return float(batch * TOKEN_BYTES)
        if self.result == "logits":
            return float(batch * model.vocab * LOGIT_BYTES)
        return self.hop_bytes(model, batch, activations)


_ENGINES: Final[tuple[EngineFacts, ...]] = (
    EngineFacts(
        "chain", "chain", True, "last", "first", "token",
        sources=("a pipeline: stage to stage, the last one samples, the token goes back to who drives the loop",),
    ),
    EngineFacts(
        "ring", "chain", False, "last", "first", "token",
        sources=("a pipeline driven by its first stage, to which the last one returns the token",),
    ),
    EngineFacts(
        "star", "star", True, "client", "client", "activation",
        sources=("every stage answers to the client, which holds embedding and LM head",),
    ),
    EngineFacts(
        "petals", "star", True, "client", "client", "activation",
        sources=(
            "arXiv 2209.01188 §2.1: clients hold embeddings and LM head, servers hold blocks",
            "petals 22afba6 (main, 2024-08) client/inference_session.py: step() waits for each server in turn; since "
            "c0a4d2e (2024-07) it always sends start_from_position, whose branch leaves out next_servers, so no server "
            "pushes to the next one although use_server_to_server is on",
            "petals 22afba6 server/server.py: tensors on the wire are uncompressed, in the server's torch dtype",
        ),
    ),
    EngineFacts(
        "petals-push", "chain", True, "client", "client", "activation", copies_to_client=True,
        sources=(
            "petals v2.2.0 client/config.py: use_server_to_server is on; server/handler.py _push_outputs: a server "
            "sends its output to the next one (rpc_push) and to the client, which still asks every server for its own",
        ),
    ),
    EngineFacts(
        "llama.cpp", "star", True, "last", "client", "logits", activation_bytes=4,
        sources=(
            "llama.cpp ggml-rpc.cpp: cpy_tensor is false between two endpoints (quoted in pull 16276), so tensors "
            "between servers are read and written by the main host; pull 8032 (2024), which would push them, is open",
            "llama.cpp graphs compute hidden states in fp32; the input layer stays on the main host, the output layer "
            "counts as one more layer of the last device (tools/rpc/README.md, --tensor-split)",
            "llama.cpp pull 15405 (2025-11) and 22701 (2026-05): the server keeps the graph; older builds resend it",
        ),
    ),
    EngineFacts(
        "vllm", "chain", True, "last", "first", "token", tensors=2, tensors_unfused=1,
        sources=(
            "vllm/sequence.py IntermediateTensors; models with a fused add and norm (llama, qwen, mixtral, deepseek) "
            "hand on hidden states and residual, falcon.py, bloom.py and starcoder2.py hidden states only",
        ),
        drives="first",
    ),
    EngineFacts(
        "parallax", "chain", True, "last", "first", "token",
        sources=(
            "arXiv 2509.26182 (Parallax): pipeline parallel stages over Lattica",
            "parallax 162354a (2026-07) server/executor/base_executor.py: the last peer sends the token to the first "
            "one; sglang_executor.py adds the residual before it sends, vllm_executor.py sends one tensor too",
        ),
        drives="first",
    ),
    EngineFacts(
        "exo", "chain", False, "first", "first", "activation", ends_everywhere=True,
        sources=(
            "exo b5375f8 (2026-06) worker/engines/mlx/auto_parallel.py: each rank sends to the next one, then "
            "all_gather hands the last rank's output to all, and every rank computes the LM head",
            "the same: embedding and LM head are left on every rank; placement is a cycle (master/placement.py)",
        ),
    ),
    EngineFacts(
        "prima.cpp", "chain", False, "first", "first", "activation", activation_bytes=4,
        sources=(
            "arXiv 2504.08791 §3: piped-ring parallelism, the head device holds embedding and output layer",
            "prima.cpp bdf9d8e (2025-07) src/llama.cpp llama_send_tensors: fp32 hidden states over ZeroMQ to the next "
            "rank, the last layer's to rank 0, which computes result_output; one round (-lw) is counted here",
        ),
    ),
    EngineFacts(
        "tensor-parallel", "all-reduce", False, "shared", "shared", "token",
        sources=("Megatron-LM arXiv 1909.08053 §3: two all-reduces a layer in the forward pass",),
    ),
    EngineFacts(
        "hybrid", "all-reduce", False, "shared", "shared", "token",
        sources=("Megatron-LM arXiv 2104.04473 §2: tensor parallel inside a group, pipeline parallel between groups",),
    ),
)  # fmt: skip

ENGINES: Final[dict[str, EngineFacts]] = {facts.name: facts for facts in _ENGINES}


def engine_facts(workload: Workload) -> EngineFacts:
    """Return the facts of the workload's engine. Raises PredictError for an unknown name."""
    try:
        return ENGINES[workload.engine]
    except KeyError:
        known = ", ".join(ENGINES)
        raise PredictError(f"engine {workload.engine!r} is not known; take one of {known}") from None
