"""Write the commands that start a placement, for each node and engine, with the warnings that they need.

Numbers come from the placement; what only the operator knows is in capitals ($MODEL, PEER-ADDRESS, ADDRESS-OF-x)
and is named in a note. Layer ranges are inclusive here and half-open in the engines. Grammars were read at these
commits:

    petals      5c8bb55 src/petals/cli/run_server.py: --block_indices start:end, --quant_type, --throughput; 2.2.0
                was started: a folder without --dht_prefix ends in a TypeError, for only a hub id gives a prefix
    llama.cpp   ggml 0.25.3 (2026-10) tools/rpc/rpc-server.cpp: ggml-rpc-server -p -c -H; common/arg.cpp: --rpc,
                --tensor-split in proportions, --device refuses the CPU, -cram; src/llama-model.cpp load_tensors: the
                last n_gpu_layers (the output layer is one) are split over the devices, those before stay on the CPU
    parallax    033a512 src/parallax/server/server_args.py: --start-layer inclusive, --end-layer exclusive
    exo         014daf3 docs/api.md POST /instance; b5375f8 src/exo/shared/types/worker/shards.py, instances.py
    prima.cpp   4adc379 README: --world --rank --master --next, -lw in rank order, -ngl; 0cdf998 common/arg.cpp: at most
                32 windows, each above 0
    distributed-llama ddde606 src/app.cpp: mode first, then pairs of option and value; --workers takes host:port up to
                the next option; no more nodes than KV heads, q40 weights only with q80 between nodes; README: 2^n nodes

vLLM's multi-node options are newer than 99d7eb5 (0.11, vllm/engine/arg_utils.py), which knows --pipeline-parallel-size
and --distributed-executor-backend but no --nnodes; a note says so. Not read at their source: those options (its Ascend
guide shows --nnodes --node-rank --master-addr; others' scripts VLLM_PP_LAYER_PARTITION and --headless).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from swarm_predict.cost.machine.cards import cards_of, groups_of_cards, with_one_size
from swarm_predict.launch.further_engines import FURTHER
from swarm_predict.launch.lines import (
    MODEL_NOTE,
    Command,
    Launch,
    Question,
    bracketed,
    by_card,
    is_private,
    is_public,
    stages_of_cards,
)
from swarm_predict.model.kv_cache_formats import CACHE_16_BITS, CACHES_OF
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.factors import machine_of
from swarm_predict.types import Placement, Stage, Workload
from swarm_protocol.snapshot.swarm import Swarm

_PETALS_PORT: Final = 31337
_RPC_PORT: Final = 50052
_TUNNEL_PORT: Final = 50100  # first local end of the tunnels on the main host
_VLLM_PORT: Final = 29500
_DLLAMA_PORT: Final = 9999
_PRIMA_WINDOWS: Final = 32
_PROCESSORS: Final = ("x86", "arm")  # device classes without a GPU
# Of a pattern in which messages travel: an engine that people run and that sends them so.
_RUNS: Final = {"chain": "parallax", "ring": "prima.cpp", "star": "petals", "hybrid": "vllm-tp"}


def launch(swarm: Swarm, model: ModelShape, workload: Workload, placement: Placement) -> Launch:
    """The commands for this placement; of a pattern of messages, those of an engine that sends so, with a note."""
    hosts = {facts.name: facts.host for facts in swarm.facts}
    cards = {facts.name: cards_of(facts.device) for facts in swarm.facts}
    names = [stage.node for stage in placement]
    load = with_one_size(swarm, model, placement, workload)
    together = max(groups_of_cards(swarm, names, model, load).values())
    client = workload.client or swarm.client or placement[0].node
    engine = _RUNS.get(workload.engine, workload.engine)
    write = _WRITERS.get(engine)
    if write is None:
        known = ", ".join(_WRITERS)
        return Launch((), (), (f"{engine} has no launch lines; --engine takes one of {known}",))
    classes = {facts.name: machine_of(facts).device_class for facts in swarm.facts}
    found = write(Question(hosts, cards, together, model, workload, placement, client, classes))
    if model.kv_cache != CACHE_16_BITS and model.kv_cache not in CACHES_OF.get(engine, ()):
        kept = f"{engine} has no KV cache in {model.kv_cache}: it keeps 16 bits, more than was counted"
        found = replace(found, warnings=(*found.warnings, kept))
    if engine == workload.engine:
        return found
    note = f"{workload.engine} is how messages travel; these lines start {engine}, and --engine {engine} predicts it"
    return replace(found, notes=(note, *found.notes))


def launch_lines(swarm: Swarm, model: ModelShape, workload: Workload, placement: Placement) -> tuple[str, ...]:
    """The same as text: warnings and notes as comments, then a comment with the node before each command."""
    found = launch(swarm, model, workload, placement)
    lines = [f"# warning: {text}" for text in found.warnings] + [f"# {text}" for text in found.notes]
    for command in found.commands:
        lines.append(f"# on {command.node}")
        lines.extend(command.text.split("\n"))
    return tuple(lines)


def _petals(question: Question) -> Launch:
    quant = {"int8": "int8", "nf4": "nf4"}.get(question.workload.weights, "none")
    dtype = {"fp32": "float32", "bf16": "bfloat16"}.get(question.workload.weights, "float16")
    prefix = _dht_prefix(question.model.name)
    commands = []
    for rank, stage in enumerate(question.placement):
        address = question.hosts.get(stage.node, "")
        words = [
            *("python -m petals.cli.run_server $MODEL", f"--dht_prefix {prefix}"),
            f"--block_indices {stage.first}:{stage.last + 1}",
            *(f"--quant_type {quant} --torch_dtype {dtype}", "--throughput auto", f"--port {_PETALS_PORT}"),
            f"--public_ip {question.address(stage.node)}" if is_public(address) else "",
            "--new_swarm" if rank == 0 else "--initial_peers PEER-ADDRESS",
        ]
        commands.append(Command(stage.node, " ".join(word for word in words if word)))
    warnings = [
        "leave --throughput at auto: a number is announced as it stands, and no measured inference_rps and "
        "network_rps beside it, so clients route by a guess"
    ]
    if question.workload.weights not in ("fp32", "fp16", "bf16", "int8", "nf4"):
        warnings.append(f"petals has no {question.workload.weights} weights; these lines load {dtype}")
    notes = (
        MODEL_NOTE.format(model=question.model.name),
        "PEER-ADDRESS: the multiaddress that the first server prints when it is up",
        f"clients find these servers by the same prefix: from_pretrained(…, dht_prefix={prefix!r}, "
        "initial_peers=[PEER-ADDRESS])",
    )
    return Launch(tuple(commands), tuple(warnings), notes)


def _dht_prefix(name: str) -> str:
    """Return the prefix that Petals derives from a hub id (petals/models/llama/config.py), which a folder lacks."""
    prefix = name.split("/")[-1].replace(".", "-").replace(":", "-")
    return shlex.quote(prefix if prefix.endswith("-hf") else f"{prefix}-hf")


def _llama_cpp(question: Question) -> Launch:
    """RPC devices come before local ones in llama.cpp; the output layer counts as one more of the last device.

    A processor is no device: what is not offloaded stays on it, and these are the first layers.
    """
    main = question.client
    remote = [stage for stage in question.placement if stage.node != main]
    local = [stage for stage in question.placement if stage.node == main]
    commands: list[Command] = []
    tunnels: list[Command] = []
    endpoints = []
    for index, stage in enumerate(remote):
        host = question.hosts.get(stage.node, "")
        private = is_private(host)
        listen = shlex.quote(host) if private else "127.0.0.1"
        commands.append(Command(stage.node, f"ggml-rpc-server -H {listen} -p {_RPC_PORT} -c"))
        if private:
            endpoints.append(f"{bracketed(host)}:{_RPC_PORT}")
        else:
            port = _TUNNEL_PORT + index
            endpoints.append(f"127.0.0.1:{port}")
            way = f"ssh -N -L {port}:127.0.0.1:{_RPC_PORT} {question.address(stage.node)}"
            tunnels.append(Command(main, way))
    on_processor = bool(local) and question.classes.get(main) in _PROCESSORS
    devices = remote if on_processor else [*remote, *local]
    split = _llama_cpp_split(devices, question.cards, all_offloaded=not on_processor)
    words = [
        *("llama-server -m $GGUF", f"-c {question.workload.context + question.workload.prompt}"),
        f"--rpc {','.join(endpoints)} -cram 0" if endpoints else "",
        split,
        f"-fa on -ctk {cache} -ctv {cache}" if (cache := question.model.kv_cache) in CACHES_OF["llama.cpp"] else "",
    ]
    commands += [*tunnels, Command(main, " ".join(word for word in words if word))]
    warnings = [
        "ggml-rpc-server has no authentication and must never face the open internet: it listens on a private address "
        "or behind the ssh tunnels below only"
    ]
    notes = [f"$GGUF: the file of {question.model.name} in {question.workload.weights}, on {main}"]
    several = [stage.node for stage in devices if question.cards.get(stage.node, 1) > 1]
    if several:
        notes.append(
            f"each card of {', '.join(several)} is a device of its own: its layers are shared evenly between them; in "
            "proportion to memory where the cards differ"
        )
    if remote:
        notes += [
            "ggml-rpc-server was called rpc-server in builds before 2026",
            "-cram 0: the prompt cache would read the KV cache back over the network before each new prompt",
        ]
    if on_processor and remote:
        notes.append(
            f"{main} has no GPU: its processor gets the first layers whatever its place above, because -ngl counts "
            "from the output layer (--tensor-split is for the other machines alone)"
        )
    elif local and remote:
        notes.append(f"llama.cpp puts RPC devices first, so {main} gets the last layers whatever its place above")
        if not question.classes.get(main):
            alone = _llama_cpp_split(remote, question.cards, all_offloaded=False)
            notes.append(f"if {main} has no GPU, write {alone} instead: its processor then gets the first layers")
    return Launch(tuple(commands), tuple(warnings), tuple(notes))


def _llama_cpp_split(devices: Sequence[Stage], cards: Mapping[str, int], *, all_offloaded: bool) -> str:
    """Return -ngl and --tensor-split for these stages in the order of llama.cpp's devices, each card one of them."""
    counts = [layers for stage in devices for layers in by_card(stage.layers, cards.get(stage.node, 1))]
    if counts:
        counts[-1] += 1  # the output layer
    offloaded = 99 if all_offloaded and counts else sum(counts)
    split = f" --tensor-split {','.join(map(str, counts))}" if len(counts) > 1 else ""
    return f"-ngl {offloaded}{split}"


def _vllm(question: Question) -> Launch:
    stages = question.placement
    head = question.address(stages[0].node)
    dtype = {"bf16": "bfloat16", "fp32": "float32"}.get(question.workload.weights, "half")
    quant = " --quantization fp8" if question.workload.weights == "fp8" else ""
    several = len(stages) > 1
    held = stages_of_cards(question, [stage.node for stage in stages], [stage.layers for stage in stages])
    parts = ",".join(map(str, held))
    commands = []
    for rank, stage in enumerate(stages):
        cache = " --kv-cache-dtype fp8" if question.model.kv_cache == "fp8" else ""
        text = f"vllm serve $MODEL --dtype {dtype}{quant}{cache}"
        if question.together > 1:
            text += f" --tensor-parallel-size {question.together}"
        if len(held) > 1:
            text = f"VLLM_PP_LAYER_PARTITION={parts} {text} --pipeline-parallel-size {len(held)}"
        if several:
            text = (
                f"{text} --distributed-executor-backend mp --nnodes {len(stages)} --node-rank {rank} "
                f"--master-addr {head} --master-port {_VLLM_PORT}{' --headless' if rank else ''}"
            )
        commands.append(Command(stage.node, text))
    warnings = ["traffic between vLLM's nodes is neither encrypted nor authenticated: private network only"]
    if question.workload.weights not in ("fp32", "fp16", "bf16", "fp8"):
        warnings.append(f"for {question.workload.weights} weights, $MODEL must be a checkpoint quantised that way")
    notes = [MODEL_NOTE.format(model=question.model.name)]
    if several:
        notes.append("vLLM 0.11 has no --nnodes yet (see vllm serve --help): older ones need a Ray cluster instead")
    return Launch(tuple(commands), tuple(warnings), tuple(notes))


def _parallax(question: Question) -> Launch:
    dtype = {"bf16": "bfloat16", "fp32": "float32"}.get(question.workload.weights, "float16")
    commands = tuple(
        Command(
            stage.node,
            f"python src/parallax/launch.py --model-path $MODEL --start-layer {stage.first} "
            f"--end-layer {stage.last + 1} --dtype {dtype}" + (" --initial-peers PEER-ADDRESS" if rank else ""),
        )
        for rank, stage in enumerate(question.placement)
    )
    notes = (
        MODEL_NOTE.format(model=question.model.name),
        "PEER-ADDRESS: the Lattica address that the first node prints; given layers, Parallax's scheduler is not used",
    )
    return Launch(commands, (), notes)


def _exo(question: Question) -> Launch:
    stages = question.placement
    shared = question.workload.engine in ("exo-tensor", "exo-tensor-tcp")
    shards = {
        f"runner-{rank}": {
            "TensorShardMetadata" if shared else "PipelineShardMetadata": {
                "deviceRank": rank,
                "worldSize": len(stages),
                "startLayer": stage.first,
                "endLayer": stage.last + 1,
                "nLayers": question.model.layers,
            }
        }
        for rank, stage in enumerate(stages)
    }
    assignments = {
        "modelId": "$MODEL",
        "nodeToRunner": {stage.node: f"runner-{rank}" for rank, stage in enumerate(stages)},
        "runnerToShard": shards,
    }
    text = json.dumps({"shardAssignments": assignments}, indent=2)
    kind = "MlxJaccl" if question.workload.engine in ("exo-rdma", "exo-tensor") else "MlxRing"
    notes = (
        MODEL_NOTE.format(model=question.model.name),
        f"put these shards into the {kind} instance that GET /instance/placement proposes (it brings modelCard, hosts "
        "and exo's own node ids), then POST it to /instance on port 52415",
    )
    warnings = ("exo's API has no authentication: private network only",)
    return Launch((Command(stages[0].node, text),), warnings, notes)


def _exo_0(question: Question) -> Launch:
    commands = tuple(Command(stage.node, "exo") for stage in question.placement)
    return Launch(commands, ("exo before 1.0 takes no placement: it shares layers in proportion to memory",), ())


def _prima(question: Question) -> Launch:
    stages = question.placement
    if len(stages) > _PRIMA_WINDOWS:
        return Launch((), (f"prima.cpp takes at most {_PRIMA_WINDOWS} nodes, not {len(stages)}; --max-stages 32",), ())
    windows = ",".join(str(stage.layers) for stage in stages)
    head = question.address(stages[0].node)
    commands = []
    for rank, stage in enumerate(stages):
        after = question.address(stages[(rank + 1) % len(stages)].node)
        ring = f"--world {len(stages)} --rank {rank} --master {head} --next {after} --prefetch"
        if rank == 0:
            length = question.workload.context + question.workload.prompt
            commands.append(
                Command(stage.node, f"./llama-server -m $GGUF -c {length} {ring} -lw {windows} -ngl {stage.layers}")
            )
        else:
            commands.append(Command(stage.node, f"./llama-cli -m $GGUF {ring} -ngl {stage.layers}"))
    warnings = (
        "prima.cpp's ports 9000 and 10000 are open to anyone who reaches them: private network only",
        "every node needs the whole GGUF file",
    )
    notes = (f"$GGUF: the file of {question.model.name} in {question.workload.weights}, on each node",)
    return Launch(tuple(commands), warnings, notes)


def _distributed_llama(question: Question) -> Launch:
    """Tensor parallel: every node computes a share of every layer, the root (who holds the file) among them."""
    nodes = list(dict.fromkeys(stage.node for stage in question.placement))
    root = question.client if question.client in nodes else nodes[0]
    workers = [node for node in nodes if node != root]
    count, heads = len(nodes), question.model.layer.kv_heads
    if count & (count - 1) or count > heads:
        most = 1 << (min(count, heads).bit_length() - 1)
        text = (
            f"distributed-llama runs on 1, 2, 4 … nodes and at most {heads} (the KV heads), not on {count}; take {most}"
        )
        return Launch((), (text,), ())
    length = question.workload.context + question.workload.prompt
    commands = [Command(node, f"./dllama worker --port {_DLLAMA_PORT} --nthreads $THREADS") for node in workers]
    words = [
        "./dllama-api --model $MODEL.m --tokenizer $TOKENIZER.t --buffer-float-type q80",
        f"--nthreads $THREADS --max-seq-len {length}",
        f"--workers {' '.join(f'{question.address(node)}:{_DLLAMA_PORT}' for node in workers)}" if workers else "",
    ]
    commands.append(Command(root, " ".join(word for word in words if word)))
    warnings = ["dllama's workers take weights and work from whoever connects: private network only"]
    if question.workload.weights not in ("q4_0", "q4_k_m", "nf4"):
        warnings.append("distributed-llama's own files are q40 (or f32); convert the model with its converter")
    notes = (
        f"$MODEL.m, $TOKENIZER.t: {question.model.name} as converted for distributed-llama, on {root} only",
        "$THREADS: the cores of each node; with a Vulkan build add --gpu-index 0",
    )
    return Launch(tuple(commands), tuple(warnings), notes)


_WRITERS: Final[dict[str, Callable[[Question], Launch]]] = {
    "petals": _petals,
    "llama.cpp": _llama_cpp,
    "vllm": _vllm,
    "parallax": _parallax,
    "exo": _exo,
    "exo-0": _exo_0,
    "exo-rdma": _exo,
    "exo-tensor": _exo,
    "exo-tensor-tcp": _exo,
    "prima.cpp": _prima,
    "distributed-llama": _distributed_llama,
    "tensor-parallel": _distributed_llama,
    **FURTHER,
}
