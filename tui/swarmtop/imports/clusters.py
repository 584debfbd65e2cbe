"""Read the machines of a running cluster from its engine's own API: exo, Parallax and mesh-llm.

    exo        GET /state of any node: memory and chip of each, and the layers that an instance gives to each
    Parallax   GET /cluster/status of the scheduler, a line of JSON a second: GPU and memory of each node
    mesh-llm   GET /api/status of a node: itself and its peers, their GPUs, and its round trip to each

Fields that a version does not have are left out, not guessed. Units are the APIs' own: bytes (exo), GiB (Parallax), GB
and ms (mesh-llm).
"""

from __future__ import annotations

import json
from typing import Any, Final

from swarm_protocol.devices.names import find
from swarm_protocol.messages.running import Running, tidy
from swarm_protocol.units import BYTES_PER_GIB
from swarmtop.imports.findings import Found, ImportProblem, LinkFound, Names, NodeFound
from swarmtop.imports.gpu.card import Card, number
from swarmtop.imports.gpu_monitors import machine_of

BYTES_PER_GB: Final = 1e9
_UNKNOWN: Final = ("", "unknown", "unknown chip", "unknown model")


def last_object(text: str) -> dict[str, Any]:
    """The JSON object of this text; of a stream (one a line, perhaps after `data:`) the last whole one.

    Raises ImportProblem.
    """
    whole = _object(text)
    if whole is not None:
        return whole
    for line in reversed(text.splitlines()):
        found = _object(line.strip().removeprefix("data:"))
        if found is not None:
            return found
    raise ImportProblem("this looks like JSON but is invalid")


def kind_of(file: dict[str, Any]) -> str | None:
    """The format whose marks this object has; None: of none of these."""
    if {"nodeMemory", "nodeProfiles", "nodeIdentities", "peer_graph"} & file.keys():
        return "exo"
    if {"topology", "instances"} <= file.keys():
        return "exo"
    if file.get("type") == "cluster_status" or isinstance(file.get("node_list"), list):
        return "parallax"
    if "my_vram_gb" in file and isinstance(file.get("peers"), list):
        return "mesh-llm"
    return None


def exo(text: str) -> Found:
    """Raises ImportProblem."""
    file = last_object(text)
    profiles, identities = _table(file, "nodeProfiles"), _table(file, "nodeIdentities")
    memories = _table(file, "nodeMemory")
    old = _table(file, "nodes")  # of exo before 2025-11: /v1/topology, memory in MB
    ids = list(dict.fromkeys([*memories, *profiles, *identities, *old]))
    if not ids:
        raise ImportProblem("this state of exo names no node; ask a node that has found the others")
    names, notes = Names(), list[str]()
    nodes: list[NodeFound] = []
    for node_id in ids:
        reported = {**_dict(profiles.get(node_id)), **_dict(identities.get(node_id)), **_dict(old.get(node_id))}
        memory = _dict(memories.get(node_id)) or _dict(reported.get("memory"))
        name = names.of(node_id, _said(reported.get("friendlyName")) or f"node-{node_id[:8]}")
        chip = _said(reported.get("chipId")) or _said(reported.get("chip")) or _said(reported.get("model")) or "unknown"
        total, free = _bytes(memory.get("ramTotal")), _bytes(memory.get("ramAvailable"))
        if (mb := reported.get("memory")) is not None and not isinstance(mb, dict):
            total = (number(mb, f"memory of {name}") or 0.0) * 1e6 or None
        nodes.append(machine_of(name, [Card(chip, total, free)], notes))
    running, said = _exo_running(file, names)
    return Found(tuple(nodes), (), (_counted(nodes), *dict.fromkeys([*notes, *said])), "exo", running)


def _exo_running(file: dict[str, Any], names: Names) -> tuple[Running | None, list[str]]:
    """The instance that spans most machines; each is wrapped in the name of its class, as is each shard."""
    best: tuple[int, str, str] | None = None
    notes: list[str] = []
    for wrapped in _table(file, "instances").values():
        shards = _dict(_untagged(wrapped)[1].get("shardAssignments"))
        runner_shards = _dict(shards.get("runnerToShard"))
        model = str(shards.get("modelId") or "")
        stages: list[tuple[int, int, str]] = []
        for node_id, runner in _dict(shards.get("nodeToRunner")).items():
            tag, shard = _untagged(runner_shards.get(str(runner)))
            if tag.startswith("Tensor"):
                notes.append(f"{model} runs tensor parallel there, which [running] does not describe")
                stages = []
                break
            first, end = shard.get("startLayer"), shard.get("endLayer")
            if isinstance(first, int) and isinstance(end, int) and end > first and node_id in names.given:
                stages.append((first, end - 1, names.of(node_id)))
        placement = tidy(",".join(f"{name}:{first}-{last}" for first, last, name in sorted(stages)))
        if placement is not None and (best is None or len(stages) > best[0]):
            best = (len(stages), placement, model)
    if best is None:
        return None, notes
    _, placement, model = best
    notes.append(f"running: swarmtop predict --swarm FILE --model {model} --engine exo --placement '{placement}'")
    return Running(placement, "exo", model[:200], "exo"), notes


def parallax(text: str) -> Found:
    """Raises ImportProblem."""
    file = last_object(text)
    data = _dict(file.get("data")) or file
    rows = [row for row in data.get("node_list") or [] if isinstance(row, dict)]
    if not rows:
        raise ImportProblem("this status of Parallax lists no node; wait until nodes have joined")
    names, notes, stages = Names(), list[str](), list[tuple[int, int, str]]()
    nodes: list[NodeFound] = []
    for row in rows:
        node_id = str(row.get("node_id") or f"node-{len(nodes) + 1}")
        name = names.of(node_id, _said(row.get("hostname")) or f"node-{node_id[-6:]}")
        count = int(number(row.get("gpu_num"), f"gpu_num of {name}") or 1)
        memory = number(row.get("gpu_memory"), f"gpu_memory of {name}")
        total = memory * BYTES_PER_GIB if memory else None
        device = _said(row.get("gpu_name")) or "unknown"
        sheet = find(device, memory)
        free = None if sheet is not None and sheet.unified else total
        nodes.append(machine_of(name, [Card(device, total, free)] * max(1, min(count, 64)), notes))
        first, end = row.get("start_layer"), row.get("end_layer")
        if isinstance(first, int) and isinstance(end, int) and end > first >= 0:
            stages.append((first, end - 1, name))
    model = str(data.get("model_name") or "")
    placement = tidy(",".join(f"{name}:{first}-{last}" for first, last, name in sorted(stages))) if stages else None
    running = Running(placement, "parallax", model[:200], "parallax") if placement is not None else None
    if model:
        notes.append(f"its model: swarmtop plan --swarm FILE --model {model} --engine parallax")
    return Found(tuple(nodes), (), (_counted(nodes), *dict.fromkeys(notes)), "Parallax", running)


def mesh_llm(text: str) -> Found:
    """Raises ImportProblem."""
    file = last_object(text)
    names, notes = Names(), list[str]()
    here = names.of(str(file.get("node_id") or "here"), _said(file.get("my_hostname")) or "here")
    own = _mesh_cards(file, file.get("my_vram_gb"), here)
    nodes = [machine_of(here, own, notes) if own and not file.get("is_client") else NodeFound(here)]
    links: list[LinkFound] = []
    for number_, peer in enumerate(file.get("peers") or []):
        if not isinstance(peer, dict):
            continue
        name = names.of(str(peer.get("id") or f"peer-{number_ + 1}"), _said(peer.get("hostname")))
        cards = _mesh_cards(peer, peer.get("vram_gb"), name)
        is_client = peer.get("role") == "Client"
        nodes.append(machine_of(name, cards, notes) if cards and not is_client else NodeFound(name))
        if (rtt_ms := number(peer.get("rtt_ms"), f"rtt_ms of {name}")) is not None:
            links += [LinkFound(here, name, rtt_ms=rtt_ms), LinkFound(name, here, rtt_ms=rtt_ms)]
    if model := _said(file.get("model_name")):
        notes.append(f"its model: swarmtop plan --swarm FILE --model {model} --engine llama.cpp")
    notes.append("round trips are this node's own, in whole ms; those between its peers are not reported")
    return Found(tuple(nodes), tuple(links), (f"{len(nodes)} machines", *dict.fromkeys(notes)), "mesh-llm")


def _mesh_cards(table: dict[str, Any], vram_gb: Any, name: str) -> list[Card]:
    """Cards of one node; the memory that it offers is shared out by what each has."""
    offered = (number(vram_gb, f"memory of {name}") or 0.0) * BYTES_PER_GB
    cards = []
    for gpu in table.get("gpus") or []:
        if isinstance(gpu, dict):
            total = number(gpu.get("vram_bytes"), f"vram_bytes of {name}") or None
            rate = number(gpu.get("bandwidth_gbps"), f"bandwidth_gbps of {name}") or None
            cards.append(Card(_said(gpu.get("name")) or "unknown", total, total, rate))
    if len(cards) == 1 and offered:
        total = cards[0].total_bytes or offered
        return [Card(cards[0].device, total, min(offered, total), cards[0].mem_gbps)]
    return cards or ([Card("unknown", offered, offered)] if offered else [])


def _counted(nodes: list[NodeFound]) -> str:
    return f"{len(nodes)} machine{'s' if len(nodes) != 1 else ''}; paths between them were not measured"


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _untagged(value: Any) -> tuple[str, dict[str, Any]]:
    """(class, fields) of `{"MlxRingInstance": {…}}`."""
    if isinstance(value, dict) and len(value) == 1:
        tag, fields = next(iter(value.items()))
        if isinstance(fields, dict):
            return str(tag), fields
    return "", _dict(value)


def _table(file: dict[str, Any], name: str) -> dict[str, Any]:
    return _dict(file.get(name))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _said(value: Any) -> str:
    return value if isinstance(value, str) and value.strip().lower() not in _UNKNOWN else ""


def _bytes(value: Any) -> float | None:
    """exo writes memory as `{"inBytes": 1}`."""
    return number(_dict(value).get("inBytes", None if isinstance(value, dict) else value), "a size of memory")
