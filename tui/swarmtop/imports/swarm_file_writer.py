"""Write findings as a swarm file: a new one, or into an existing one, whose comments and order are kept.

An existing node gets the keys that it lacks, and new values for keys that it has. Links go to the end of the file,
where they override earlier ones; those that an earlier import wrote for the same pair are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table

from swarmtop.imports.findings import Found, ImportProblem, LinkFound, NodeFound

_NODE_KEYS: Final = ("device", "vram_gib", "up_mbps", "down_mbps", "mem_gbps", "tflops")
_LINK_KEYS: Final = ("rtt_ms", "jitter_ms", "loss", "mbps")
_DIGITS: Final = 4  # significant; measurements are not more precise


def written(found: Found, base: str = "") -> str:
    """Return the text of the file, `base` with the findings. Raises ImportProblem where `base` is not TOML."""
    try:
        file = tomlkit.parse(base)
    except TOMLKitError as error:
        raise ImportProblem(f"that swarm file is not TOML ({error})") from error
    if not base.strip():
        file.add(tomlkit.comment(f"from {found.source}"))
        for note in found.notes:
            file.add(tomlkit.comment(note))
        file.add(tomlkit.nl())
    if found.names:
        _nodes(_tables(file, "node"), found)
    if found.running is not None:
        table = tomlkit.table()
        table.update({"placement": found.running.placement, "engine": found.running.engine})
        table["model"] = found.running.model
        file["running"] = table
    if found.links:
        _links(_tables(file, "link"), found.links)
    text = tomlkit.dumps(file)
    return text if base.strip() else re.sub(r"\n{3,}", "\n\n", text)  # of a file of ours alone


def _tables(file: tomlkit.TOMLDocument, key: str) -> AoT:
    if key not in file:
        file.append(key, tomlkit.aot())
    tables = file[key]
    if not isinstance(tables, AoT):
        raise ImportProblem(f"{key} of that swarm file is not [[{key}]]")
    return tables


def _nodes(tables: AoT, found: Found) -> None:
    known = {str(table.get("name")): table for table in tables}
    facts = {node.name: node for node in found.nodes}
    for name in found.names:
        node = facts.get(name, NodeFound(name))
        table = known.get(name)
        if table is None:
            tables.append(_new_node(node))
        else:
            _set(table, _lacking(table, node) if node.fills else _figures(node, _NODE_KEYS))
            _set_layers(table, node)


def _lacking(table: Table, node: NodeFound) -> dict[str, Any]:
    """Return the data-sheet values that the file lacks: none for a machine whose `gpu` is named."""
    return {} if "gpu" in table else {k: v for k, v in _figures(node, _NODE_KEYS).items() if k not in table}


def _new_node(node: NodeFound) -> Table:
    table = tomlkit.table()
    table.add("name", node.name)
    if node.remark:
        table["name"].comment(node.remark)
    _set(table, _figures(node, _NODE_KEYS))
    _set_layers(table, node)
    if not node.layers:
        table.add(tomlkit.nl())
    return table


def _set_layers(table: Table, node: NodeFound) -> None:
    if not node.layers:
        return
    layers = tomlkit.aot()
    renewed = {(found.model, found.phase, found.dtype) for found in node.layers}
    for layer in table.get("layer", ()):  # of other models, formats and phases
        if (layer.get("model"), layer.get("phase", "decode"), layer.get("dtype")) not in renewed:
            layers.append(layer)
    for found in node.layers:
        layer = tomlkit.table()
        layer.add("model", found.model)
        layer.add("phase", found.phase)
        layer.add("context" if found.phase == "decode" else "tokens", found.tokens)
        layer.add("ms", _rounded(found.ms))
        if found.ms_p95 is not None:
            layer.add("ms_p95", _rounded(found.ms_p95))
        layer.add("dtype", found.dtype)
        layer.add(tomlkit.nl())
        layers.append(layer)
    table["layer"] = layers


def _links(tables: AoT, links: Iterable[LinkFound]) -> None:
    known = {(str(table.get("from")), str(table.get("to"))): table for table in tables}
    for link in links:
        figures = _figures(link, _LINK_KEYS)
        table = known.get((link.src, link.dst))
        if table is not None:
            _set(table, figures)
            continue
        table = tomlkit.table()
        table.add("from", link.src)
        table.add("to", link.dst)
        _set(table, figures)
        tables.append(table)


def _figures(found: object, keys: Iterable[str]) -> dict[str, Any]:
    values = {key: getattr(found, key) for key in keys}
    return {key: _rounded(v) if isinstance(v, float) else v for key, v in values.items() if v is not None}


def _set(table: Table, values: dict[str, Any]) -> None:
    for key, value in values.items():
        table[key] = value


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
