"""Define the message pattern of each engine: which node sends to which, how many bytes, and which computes the LM head.

One frozen record an engine, with a source for each figure. `build` prices the pattern, `launch.commands` writes the
commands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import AllReduce, Engine, PredictError, Workload

HEADER_BYTES: Final = 52  # of a packet: IPv4, and TCP with timestamps
TOKEN_BYTES: Final = 4  # one token id
FP32_BYTES: Final = 4
LOGIT_BYTES: Final = FP32_BYTES
CONTEXT_STEP: Final = 256  # llama.cpp: attention masks are as wide as the cache, in these steps
Q80_BYTES: Final = 34 / 32  # an element in blocks of 32 with a 16-bit scale
UNFUSED: Final = frozenset({"bloom", "falcon", "gpt2"})  # no residual travels with the hidden states

Pattern = Literal["chain", "star", "all-reduce"]
HeadAt = Literal["last", "client", "first", "shared"]
Counts = Literal["any", "powers of two"]
Heads = Literal["any", "at most the KV heads", "divides the KV heads", "divides the heads"]


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """The properties of an engine that decide its time per token."""

    name: Engine
    pattern: Pattern
    client_in_loop: bool  # False: the first stage drives the loop (a ring); a named client only reads the text
    head: HeadAt  # which node computes the logits
    embedding: Literal["first", "client", "shared"]
    result: Literal["token", "activation", "logits"]  # what the last stage sends on
    tensors: int = 1  # activation-sized tensors in each message
    tensors_unfused: int | None = None  # the same for models without a fused add and norm; None: as the others
    activation_bytes: float | None = None  # a fixed width of an element; None: as the workload says
    extra_bytes: int = 0  # what goes with each input of a stage: headers, positions, indices
    mask_bytes: int = 0  # the same, for each token of context
    graph_bytes: int = 0  # what a stage is sent with a prompt for each of its layers: how to compute it
    extra_packets: int = 0  # messages that an input takes besides full ones: small writes, each sent at once
    ends_everywhere: bool = False  # embedding and LM head are on every stage
    # what drives the loop in the unmodified engine; if a client is named, a note says so
    drives: Literal["client", "first"] = "client"
    all_reduce: AllReduce = "doubling"  # unless the workload says otherwise
    counts: Counts = "any"  # machines that may share a layer
    heads: Heads = "any"  # how many of them the attention heads allow
    uneven: bool = False  # machines of a group may hold unequal shares
    groups: bool = False  # several groups may follow each other as a pipeline
    equal_groups: bool = False  # all of one size
    rdma: bool = False  # messages bypass both kernels
    most_rtt_ms: float = math.inf  # machines farther from the host are left out of a split
    windows: bool = False  # several verify windows of one stream are in flight
    cards_together: bool = False  # the cards of one machine split each layer; else each has layers of its own
    limits: str = ""  # what else the engine restricts
    sources: tuple[str, ...] = ()

    def hop_bytes(self, model: ModelShape, batch: int, activations: str) -> float:
        """Return the bytes that a stage sends to the next (or to the client) for one token of each sequence."""
        size = model.hop_bytes(batch, activations)
        if self.activation_bytes is not None:
            size = float(batch * model.hidden * self.activation_bytes)
        return size * (self.tensors_unfused if self._unfused(model) and self.tensors_unfused else self.tensors)

    def reduce_bytes(self, model: ModelShape, batch: int, activations: str) -> float:
        """Return the bytes of what machines that share a layer add up: one tensor."""
        return self.hop_bytes(model, batch, activations) / (1 if self._unfused(model) else self.tensors)

    def root_bytes(self, model: ModelShape, tokens: int, batch: int, members: int) -> tuple[float, float] | None:
        """Return the bytes on the uplink of the root of machines that share all layers: (the embedded tokens to all
        others, their slices of the logits back), both in fp32; None if no root collects logits."""
        others = members - 1
        if self.pattern != "all-reduce" or self.result != "logits" or not others:
            return None
        return (
            float(tokens * model.hidden * FP32_BYTES * others),
            batch * model.vocab * LOGIT_BYTES * others / members,
        )

    def _unfused(self, model: ModelShape) -> bool:
        return self.tensors_unfused is not None and model.layer.architecture in UNFUSED

    def enter_bytes(self, model: ModelShape, batch: int, activations: str) -> float:
        """Return the bytes that the client sends to a stage: a token id if stages hold the embedding, else its row."""
        if self.pattern == "star" or self.embedding == "client":
            return self.hop_bytes(model, batch, activations)
        return float(batch * TOKEN_BYTES)

    def input_bytes(self, batch: int, context: int, tokens: int = 1) -> float:
        """Return the bytes that the client sends to a stage besides activations, for one pass of `tokens` tokens."""
        if not self.extra_bytes:
            return 0.0
        span = -(-(context + tokens) // CONTEXT_STEP) * CONTEXT_STEP
        heads = self.extra_packets * HEADER_BYTES
        return float(self.extra_bytes + heads + self.mask_bytes * span * batch * tokens)

    def sizes_allowed(self, model: ModelShape, most: int, cards: int = 1) -> list[int]:
        """Return how many machines may share a layer of this model, up to `most`; each splits its share among its
        `cards`."""

        def allowed(count: int) -> bool:
            if self.counts == "powers of two" and count & (count - 1):
                return False
            if self.heads == "at most the KV heads":
                return count <= model.kv_heads
            if self.heads == "divides the KV heads":
                return model.kv_heads % count == 0 and model.hidden % count == 0
            return self.heads == "any" or model.heads % (count * cards) == 0

        return [count for count in range(1, most + 1) if allowed(count)]

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
            "pushes to the next one although use_server_to_server is on; release 2.2.0 pushes in vain",
            "petals 22afba6 server/server.py: tensors on the wire are uncompressed, in the server's torch dtype",
        ),
    ),
    EngineFacts(
        "llama.cpp", "star", True, "last", "client", "logits", activation_bytes=4, extra_bytes=1924, mask_bytes=2,
        graph_bytes=12_680, extra_packets=20,
        sources=(
            "llama.cpp ggml-rpc.cpp: cpy_tensor is false between two endpoints (quoted in pull 16276), so tensors "
            "between servers are read and written by the main host; pull 8032 (2024), which would push them, is open",
            "llama.cpp graphs compute hidden states in fp32; the input layer stays on the main host, the output layer "
            "counts as one more layer of the last device (tools/rpc/README.md, --tensor-split)",
            "llama.cpp ggml-rpc.cpp: each tensor that is set takes 314 bytes beside its data (command 1, size 8, "
            "rpc_tensor 297, offset 8); a stage is sent hidden states, positions, two cache indices and the attention "
            "mask (fp16 with flash attention, which is on by default; as wide as the cache in steps of 256), the order "
            "to compute (13) and a request for the output (321). Captured message by message: 1,924 bytes and 2 for "
            "each token of the cache beside the hidden states; 318 more at the last stage are not counted",
            "llama.cpp ggml-rpc.cpp send_rpc_cmd writes a command's byte, its size and its body one by one, "
            "transport.cpp sets TCP_NODELAY: seven commands are 20 small packets beside those of the hidden states, "
            "each with headers, and each counts in TCP's window, which is one of packets",
            "llama.cpp pull 15405 (2025-11) and 22701 (2026-05): the server keeps the graph; older builds resend it",
            "captured: a prompt is another graph than a token: 39.5 kB for three layers, 80.0 for six and output",
            "llama.cpp pull 16276 (2025-10): an rpc-server offers every card of its host as a device of its own; the "
            "main host reads and writes between them as between servers",
        ),
        limits="a host's cards are devices of their own in --tensor-split",
    ),
    EngineFacts(
        "mesh-llm", "chain", True, "last", "client", "logits", activation_bytes=4, most_rtt_ms=80.0,
        sources=(
            "Mesh-LLM/mesh-llm 0809252 (2026-04) mesh-llm/docs/DESIGN.md, B2B Direct Transfer: workers push tensors "
            "to each other (PUSH_TENSOR_TO_PEER of its llama.cpp fork), not through the host",
            "the same, Latency-Aware Tensor Split: peers above 80 ms of round trip do not take part; README.md: "
            "llama-server runs on the node of most memory, layers in proportion to memory",
        ),
        limits="splits by memory itself; no peer farther than 80 ms",
    ),
    EngineFacts(
        "shard", "chain", True, "last", "first", "token", windows=True,
        sources=(
            "leyten/shard bca9308 (2026-08) README.md: a coordinator without layers drafts and sends token ids to the "
            "first stage, stages pass activations on, the last one returns its choices straight to the coordinator",
            "the same, phase0/specpipe.py coordinate_pipe: `depth` verify windows in flight, those behind a miss are "
            "discarded; docs/receipts/ holds runs with round trips, GPUs and token hashes",
        ),
        limits="gpt-oss, GLM, MiniMax, DeepSeek V4; a draft model on the coordinator",
    ),
    EngineFacts(
        "vllm", "chain", True, "last", "first", "token", tensors=2, tensors_unfused=1,
        sources=(
            "vllm/sequence.py IntermediateTensors; models with a fused add and norm (llama, qwen, mixtral, deepseek) "
            "hand on hidden states and residual, falcon.py, bloom.py and starcoder2.py hidden states only",
            "docs.vllm.ai serving/parallelism_scaling: tensor parallel size is the number of cards of each node, "
            "pipeline parallel size the number of nodes",
        ),
        drives="first", cards_together=True,
        limits="every stage has the same number of cards (--tensor-parallel-size), which divides the heads",
    ),
    EngineFacts(
        "vllm-tp", "all-reduce", False, "shared", "shared", "token", tensors=2, tensors_unfused=1, all_reduce="ring",
        heads="divides the heads", groups=True, equal_groups=True, cards_together=True,
        sources=(
            "docs.vllm.ai/projects/ascend feature_guide/pipeline_parallel: a stage is one tensor parallel group, all "
            "of --tensor-parallel-size, --pipeline-parallel-size of them; --nnodes --node-rank --master-addr",
            "Megatron-LM arXiv 1909.08053 §3: an all-reduce after attention and one after the MLP, by NCCL between "
            "hosts; with expert parallel the experts lie on all ranks, which sum what these return",
        ),
        limits="every stage has the same number of machines; --enable-expert-parallel is priced as the all-reduce",
    ),
    EngineFacts(
        "sglang", "chain", True, "last", "first", "token", tensors=2, tensors_unfused=1,
        sources=(
            "mintlify.com/sgl-project/sglang distributed/pipeline-parallelism: --pp-size stages, each forwards its "
            "activations to the next, sends are asynchronous; messages taken as vLLM's, whose layers it shares",
        ),
        drives="first", cards_together=True,
        limits="every stage has the same number of cards (--tp-size), which divides the heads",
    ),
    EngineFacts(
        "sglang-tp", "all-reduce", False, "shared", "shared", "token", tensors=2, tensors_unfused=1, all_reduce="ring",
        heads="divides the heads", groups=True, equal_groups=True, cards_together=True,
        sources=(
            "docs.sglang.io base/reference/server_arguments and mintlify.com/sgl-project/sglang "
            "distributed/tensor-parallelism: --tp-size over several nodes, all-reduces at layer boundaries",
        ),
        limits="every stage has the same number of machines",
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
        "exo-0", "chain", False, "last", "first", "token",
        sources=(
            "exo af171f0 (2025) exo/orchestration/node.py process_inference_result: nodes forward tensors over gRPC, "
            "the last one samples and forwards the token to the first; from 1.0 (2025-11) exo is another program",
            "what a message takes is fitted to runs of that time: some tens of milliseconds, where 1.x takes under one",
        ),
        limits="exo before 1.0, which shares layers by memory itself",
    ),
    EngineFacts(
        "exo-rdma", "chain", False, "first", "first", "activation", ends_everywhere=True, rdma=True,
        sources=(
            "exo b5375f8 (2026-06) master/placement.py: MlxJaccl instances run on Metal over RDMA; messages as exo's",
            "mlx 846d176 (2026-08) docs/src/usage/distributed.rst: JACCL has an order of magnitude less latency than "
            "the ring over TCP, and every two machines need a Thunderbolt 5 cable",
        ),
        limits="Apple machines, each cabled to each",
    ),
    EngineFacts(
        "exo-tensor", "all-reduce", False, "shared", "shared", "token", all_reduce="mesh",
        heads="divides the KV heads", rdma=True, ends_everywhere=True,
        sources=(
            "exo b5375f8 (2026-06) worker/engines/mlx/auto_parallel.py tensor_auto_parallel: one all_sum after "
            "attention and one after the MLP; master/placement.py: hidden size and KV heads divisible by the machines",
            "mlx 846d176 (2026-08) distributed/jaccl/lib/jaccl/mesh_impl.h: all_reduce sends to every peer at once",
        ),
        limits="Apple machines, each cabled to each",
    ),
    EngineFacts(
        "exo-tensor-tcp", "all-reduce", False, "shared", "shared", "token", all_reduce="ring",
        heads="divides the KV heads", ends_everywhere=True,
        sources=(
            "exo b5375f8 (2026-06) shared/types/worker/instances.py MlxRingInstance with tensor sharding; as above",
            "mlx 846d176 (2026-08) distributed/ring/ring.cpp: all_sum around a ring of TCP sockets",
        ),
    ),
    EngineFacts(
        "mlx", "chain", False, "first", "first", "activation", ends_everywhere=True,
        sources=(
            "exo b5375f8 (2026-06) worker/engines/mlx/auto_parallel.py does what mlx-lm's own pipeline does: each rank "
            "sends to the next, all_gather hands the output to all",
            "mlx 846d176 (2026-08) docs/src/usage/distributed.rst: the ring backend over TCP is always there",
        ),
        limits="models that mlx-lm can split into stages (DeepSeek V3 and kin); evenly",
    ),
    EngineFacts(
        "mlx-tensor", "all-reduce", False, "shared", "shared", "token", all_reduce="ring",
        heads="divides the KV heads", ends_everywhere=True,
        sources=(
            "mlx 846d176 (2026-08) docs/src/examples/tensor_parallelism.rst: ShardedToAllLinear ends in all_sum, after "
            "attention and after the MLP; distributed/ring/ring.cpp: around a ring of TCP sockets",
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
        "distributed-llama", "all-reduce", False, "shared", "shared", "logits", activation_bytes=Q80_BYTES,
        all_reduce="mesh", counts="powers of two", heads="at most the KV heads",
        sources=(
            "distributed-llama 8d624a7 (2026-01) src/nn/nn-network.cpp syncNodeSlices: every machine sends its partial "
            "sums, in q80, to every other one; src/llm.cpp: after attention and after the MLP",
            "the same, src/llm.cpp: the root sends the embedded token to all (SYNC_WITH_ROOT) and collects their "
            "slices of the logits (SYNC_NODE_SLICES_EXCEPT_ROOT); both are F_32 whatever the sync type",
            "the same, README.md: 2^n machines, at most as many as KV heads; q40 weights with q80 between machines",
            "README.md at 4c38a2e (2024-06): 544, 1632 and 3808 kB a token for 2, 4 and 8 machines with Llama 3 8B, "
            "which is 64 all-reduces of 4096 elements to each peer, sent and received",
        ),
        limits="equal shares; the root is one of the machines",
    ),
    EngineFacts(
        "tensor-parallel", "all-reduce", False, "shared", "shared", "token", uneven=True,
        sources=("Megatron-LM arXiv 1909.08053 §3: two all-reduces a layer in the forward pass",),
    ),
    EngineFacts(
        "hybrid", "all-reduce", False, "shared", "shared", "token", groups=True,
        sources=("Megatron-LM arXiv 2104.04473 §2: tensor parallel inside a group, pipeline parallel between groups",),
    ),
)  # fmt: skip

ENGINES: Final[dict[str, EngineFacts]] = {facts.name: facts for facts in _ENGINES}


def all_reduce_of(workload: Workload) -> AllReduce:
    """Return the all-reduce of machines that share a layer: the workload's, else the engine's own."""
    return workload.all_reduce or engine_facts(workload).all_reduce


def engine_facts(workload: Workload) -> EngineFacts:
    """Return the facts of the workload's engine. Raises PredictError for an unknown name."""
    try:
        return ENGINES[workload.engine]
    except KeyError:
        known = ", ".join(ENGINES)
        raise PredictError(f"engine {workload.engine!r} is not known; choose one of {known}") from None
