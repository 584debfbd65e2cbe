"""Write launch commands of engines that share layers between machines, and of those new in 2026.

mesh-llm    0809252 README.md, docs/CLI.md: serve --model, --join TOKEN
shard       bca9308 phase0/specpipe.py main(): --stage --nstages --lo --hi (exclusive) --next --fast --direct-return;
            coordinator: --coordinator --tail --draft-server --pipe --depth --K
mlx         846d176 docs/src/usage/distributed.rst: mlx.launch --hosts, --backend
vllm        docs.vllm.ai/projects/ascend feature_guide/pipeline_parallel: --tensor-parallel-size,
            --pipeline-parallel-size, --nnodes --node-rank --master-addr --master-port, one process group over all
sglang      docs.sglang.io server_arguments: --tp-size --pp-size --nnodes --node-rank --dist-init-addr
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from swarm_predict.launch.lines import MODEL_NOTE, Command, Launch, Question, stages_of_cards
from swarm_predict.types import Stage

_PORT: Final = 29500
_SHARD_PORT: Final = 29501
_DRAFT_PORT: Final = 29600


def _mesh_llm(question: Question) -> Launch:
    stages = question.placement
    host = question.client
    others = [stage.node for stage in stages if stage.node != host]
    commands = [Command(host, "mesh-llm serve --model $MODEL")]
    commands += [Command(node, "mesh-llm serve --join $TOKEN") for node in others]
    notes = (
        f"$MODEL: {question.model.name} in {question.workload.weights}, as mesh-llm's catalogue names it",
        f"$TOKEN: what {host} prints; peers above 80 ms of round trip stay clients",
        "mesh-llm splits by memory itself: the layers above are the expected result, not an instruction",
    )
    return Launch(tuple(commands), (), notes)


def _shard(question: Question) -> Launch:
    stages, load = question.placement, question.workload
    count = len(stages)
    commands = []
    for rank, stage in reversed(list(enumerate(stages))):
        following = f" --next {question.address(stages[rank + 1].node)}:{_SHARD_PORT}" if rank + 1 < count else ""
        head = " --served-head" if rank == 0 else ""
        commands.append(
            Command(
                stage.node,
                f"SHARD_PSK=$PSK python phase0/specpipe.py --stage {rank} --nstages {count} --lo {stage.first} "
                f"--hi {stage.last + 1} --model $MODEL --listen-port {_SHARD_PORT}{following}{head} "
                "--fast --direct-return",
            )
        )
    first, last = question.address(stages[0].node), question.address(stages[-1].node)
    ahead = f"--K {load.draft_tokens or 4}" + (f" --pipe --depth {load.windows}" if load.windows > 1 else "")
    commands.append(
        Command(
            question.client,
            f"SHARD_PSK=$PSK python phase0/specpipe.py --coordinator --nstages {count} --model $MODEL "
            f"--next {first}:{_SHARD_PORT} --tail {last}:{_SHARD_PORT} --direct-return "
            f"--draft-server 127.0.0.1:{_DRAFT_PORT} {ahead}",
        )
    )
    notes = (
        MODEL_NOTE.format(model=question.model.name),
        f"$PSK: one secret for all; a draft server (research/draft_server.py) listens on {question.client}",
    )
    return Launch(tuple(commands), (), notes)


def _groups(stages: tuple[Stage, ...]) -> list[list[Stage]]:
    found: dict[tuple[int, int], list[Stage]] = {}
    for stage in stages:
        found.setdefault((stage.first, stage.last), []).append(stage)
    return [found[key] for key in sorted(found)]


def _mlx(question: Question) -> Launch:
    hosts = ",".join(question.address(stage.node) for stage in question.placement)
    shared = question.workload.engine == "mlx-tensor"
    script = "$TENSOR_SCRIPT" if shared else "$PIPELINE_SCRIPT"
    command = f"mlx.launch --backend ring --hosts {hosts} {script} --model $MODEL"
    how = "its layers sharded (mlx.nn ShardedToAllLinear)" if shared else "its layers in stages, evenly"
    notes = (
        MODEL_NOTE.format(model=question.model.name),
        f"{script}: a script that loads the model with {how}, at the same path on every host; mlx.launch reaches "
        "them by ssh",
    )
    return Launch((Command(question.placement[0].node, command),), (), notes)


def _sizes(question: Question) -> tuple[int, int, list[str]]:
    """(cards of each stage, stages, nodes in rank order)."""
    groups = _groups(question.placement)
    nodes = [stage.node for group in groups for stage in group]
    return len(groups[0]) * question.together, len(_held(question)), list(dict.fromkeys(nodes))


def _held(question: Question) -> list[int]:
    """Return the layers of each stage."""
    groups = _groups(question.placement)
    return stages_of_cards(question, [group[0].node for group in groups], [group[0].layers for group in groups])


def _vllm_tp(question: Question) -> Launch:
    tensor, stages, nodes = _sizes(question)
    parts = ",".join(map(str, _held(question)))
    head = question.address(nodes[0])
    partition = f"VLLM_PP_LAYER_PARTITION={parts} " if stages > 1 else ""
    cache = _fp8_cache(question, "fp8")
    commands = [
        Command(
            node,
            f"{partition}vllm serve $MODEL{cache} --tensor-parallel-size {tensor} "
            f"--pipeline-parallel-size {stages} --distributed-executor-backend mp --nnodes {len(nodes)} "
            f"--node-rank {rank} --master-addr {head} --master-port {_PORT}{' --headless' if rank else ''}",
        )
        for rank, node in enumerate(nodes)
    ]
    warnings = ("traffic between vLLM's nodes is neither encrypted nor authenticated: private network only",)
    notes = [MODEL_NOTE.format(model=question.model.name)]
    if question.model.layer.experts:
        notes.append("--enable-expert-parallel spreads whole experts over the same machines")
    return Launch(tuple(commands), warnings, tuple(notes))


def _fp8_cache(question: Question, name: str) -> str:
    return f" --kv-cache-dtype {name}" if question.model.kv_cache == "fp8" else ""


def _sglang(question: Question) -> Launch:
    tensor, stages, nodes = _sizes(question)
    if question.workload.engine == "sglang":
        tensor = question.together
    head, cache = question.address(nodes[0]), _fp8_cache(question, "fp8_e5m2")
    commands = [
        Command(
            node,
            f"python -m sglang.launch_server --model-path $MODEL{cache} --tp-size {tensor} --pp-size {stages} "
            f"--nnodes {len(nodes)} --node-rank {rank} --dist-init-addr {head}:{_PORT}",
        )
        for rank, node in enumerate(nodes)
    ]
    warnings = ["traffic between SGLang's nodes is neither encrypted nor authenticated: private network only"]
    counts = {group[0].layers for group in _groups(question.placement)}
    if max(counts) - min(counts) > 1:
        warnings.append("--pp-size splits the layers evenly: the placement above is not even")
    return Launch(tuple(commands), tuple(warnings), (MODEL_NOTE.format(model=question.model.name),))


FURTHER: Final[dict[str, Callable[[Question], Launch]]] = {
    "mesh-llm": _mesh_llm,
    "shard": _shard,
    "mlx": _mlx,
    "mlx-tensor": _mlx,
    "vllm-tp": _vllm_tp,
    "sglang": _sglang,
    "sglang-tp": _sglang,
}
