"""Read what transformers' configuration classes use where a config.json omits a field, for the fields that are read.

The table (data/family_defaults.txt) is written by tools/data_tables/model_defaults.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any


def table_lines(name: str) -> Iterator[str]:
    """Yield the entries of a table in model/data; a line that begins with a blank continues the previous one."""
    import importlib.resources  # takes milliseconds, and a model by name needs no table

    text = importlib.resources.files("swarm_predict.model").joinpath("data", name).read_text("utf-8")
    entry = ""
    for line in text.splitlines():
        if line.startswith(" "):
            entry += " " + line.strip()
            continue
        if entry:
            yield entry
        entry = "" if line.startswith("#") else line
    yield entry


def _value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    try:
        return int(text)
    except ValueError:
        return text


@functools.cache
def family_defaults() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for entry in table_lines("family_defaults.txt"):
        kind, _, fields = entry.partition(":")
        found[kind] = {key: _value(value) for key, _, value in (word.partition("=") for word in fields.split())}
    return found
