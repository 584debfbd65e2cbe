"""Read the text of nvidia-smi: the CSV of a query, its plain table, `-q` and `-L`.

Columns of a CSV are those of `--help-query-gpu`; a spreadsheet may have changed the separator. The plain table cuts
long names off, which are then unknown.
"""

from __future__ import annotations

import csv
import re
from typing import Final

from swarmtop.imports.delimited_text import separator_of
from swarmtop.imports.findings import ImportProblem
from swarmtop.imports.gpu.card import Card, amount_bytes, free_of

ADVICE: Final = "nvidia-smi --query-gpu=name,memory.total,memory.free --format=csv prints one"
_FIGURES: Final = ("memory.total", "memory.free", "memory.used", "memory.reserved")
_ROW: Final = re.compile(r"^\|\s*(\d+)\s{1,4}(\S.*?)\s+(?:On|Off|N/A|WDDM|TCC|MCDM)?\s*\|\s*[0-9A-Fa-f]{8}:")
_MEMORY: Final = re.compile(r"(\d+)\s*MiB\s*/\s*(\d+)\s*MiB")
_LISTED: Final = re.compile(r"^GPU \d+: (.+?) \(UUID: ", re.MULTILINE)
_FIELD: Final = re.compile(r"^(\s*)([^:\n]+?)\s*:\s*(.*)$")


def is_query(text: str) -> bool:
    head = text.lstrip("\ufeff").split("\n", 1)[0]
    return "memory." in head and "name" in head


def query(text: str) -> list[Card]:
    """Read `--query-gpu=name,memory.total,… --format=csv`. Raises ImportProblem."""
    lines = [line for line in text.splitlines() if line.strip()]
    between = separator_of(lines[0]) if lines else ","
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=between, skipinitialspace=True)]
    head = [re.split(r"\s*\[", cell)[0] for cell in rows[0]] if rows else []
    units = [match[1] if (match := re.search(r"\[(\w+)\]", cell)) else "MiB" for cell in rows[0]] if rows else []
    if "memory.total" not in head or "name" not in head:
        raise ImportProblem(f"this is not a table of nvidia-smi with names and memory; {ADVICE}")
    cards = []
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(head):
            raise ImportProblem(f"line {line} has {len(row)} cells, the first line {len(head)}")
        cells = dict(zip(head, zip(row, units, strict=True), strict=True))
        total, free, used, reserved = (
            amount_bytes(*cells[figure], f"line {line}") if figure in cells else None for figure in _FIGURES
        )
        cards.append(Card(cells["name"][0], total, free_of(total, used, free, reserved)))
    if not cards:
        raise ImportProblem("this table has no card in it")
    return cards


def plain(text: str) -> list[Card]:
    """Read what `nvidia-smi` prints without options. Raises ImportProblem."""
    cards: list[Card] = []
    name = None
    for line in text.splitlines():
        if match := _ROW.match(line):
            name = match[2]
        elif name is not None and "%" in line and line.lstrip().startswith("|"):
            memory = _MEMORY.search(line)
            used, total = (float(memory[1]) * (1 << 20), float(memory[2]) * (1 << 20)) if memory else (None, None)
            cards.append(Card(name, total, free_of(total, used, None)))
            name = None
    if not cards:
        raise ImportProblem(f"this is a table of nvidia-smi without a card; {ADVICE}")
    return cards


def listed(text: str) -> list[Card]:
    """Read `nvidia-smi -L`: names alone."""
    return [Card(name) for name in _LISTED.findall(text)]


def details(text: str) -> list[Card]:
    """Read `nvidia-smi -q`: sections by indentation. Raises ImportProblem."""
    cards: list[Card] = []
    name: str | None = None
    section: dict[str, float | None] | None = None
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if stripped == "FB Memory Usage":
            section, depth = {}, indent
            continue
        field = _FIELD.match(line)
        if field is not None and field[2] == "Product Name":
            name = field[3].strip()
        if section is None:
            continue
        if field is not None and indent > depth:
            section[field[2]] = amount_bytes(field[3], "MiB", f"line {number}")
            continue
        if name is not None:
            cards.append(_of_section(name, section))
            name = None
        section = None
    if section is not None and name is not None:
        cards.append(_of_section(name, section))
    if not cards:
        raise ImportProblem(f"this log of nvidia-smi -q has no card with its memory; {ADVICE}")
    return cards


def _of_section(name: str, section: dict[str, float | None]) -> Card:
    total = section.get("Total")
    return Card(name, total, free_of(total, section.get("Used"), section.get("Free"), section.get("Reserved")))
