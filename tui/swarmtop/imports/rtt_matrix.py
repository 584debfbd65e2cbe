"""Read round trips between named machines in CSV: a square with names on both edges, or a list of pairs.

    from\\to,ams,nyc          src,dst,rtt_ms,jitter_ms,loss
    ams,,81.2                 ams,nyc,81.2,3.0,0.001
    nyc,80.9,                 nyc,ams,80.9,2.8,0

Cells may be separated by commas, semicolons or tabs, have decimal commas, and name their unit ("12,5 ms").
In a square the row sends. Empty cells, `-` and `nan` are unmeasured pairs; the diagonal is not read. In a list the
columns after the first two may be any of rtt_ms, jitter_ms, loss, mbps; a pair without its reverse gets the same
figures.
"""

from __future__ import annotations

from typing import Final

from swarmtop.imports.delimited_text import number_of, rows_of
from swarmtop.imports.findings import Found, ImportProblem, LinkFound, Names, NodeFound

_FIGURES: Final = ("rtt_ms", "jitter_ms", "loss", "mbps")
_PAIRS: Final = (["src", "dst"], ["from", "to"], ["source", "destination"], ["source", "target"])


def read(text: str, unit: str = "ms") -> Found:
    """Read a file. `unit` is that of a square's cells. Raises ImportProblem."""
    rows = rows_of(text)
    if len(rows) < 2:
        raise ImportProblem("a matrix has a line of names and a line a machine; this has fewer than two lines")
    head = [cell.strip() for cell in rows[0]]
    if [cell.lower() for cell in head[:2]] in _PAIRS:
        return _pairs(head[2:], rows[1:], unit)
    return _square(head, rows[1:], unit)


def _square(head: list[str], rows: list[list[str]], unit: str) -> Found:
    names = Names()
    columns = [names.of(word) for word in head[1:]]
    if len(names.given) != len(columns):
        raise ImportProblem("two columns of this matrix have the same name; names must differ")
    links = []
    for number, row in enumerate(rows, 2):
        src = names.of(row[0].strip())
        if len(row) != len(head):
            raise ImportProblem(f"line {number} has {len(row)} cells, the first line {len(head)}; a square has as many")
        for dst, cell in zip(columns, row[1:], strict=True):
            if dst == src:
                continue
            value = number_of(cell, f"line {number}, column {dst}", "rtt_ms", unit)
            if value is not None:
                links.append(LinkFound(src, dst, rtt_ms=value))
    unknown = set(names.given.values()) - set(columns)
    if unknown:
        raise ImportProblem(
            f"line of {sorted(unknown)[0]!r}: no column has that name; a square has the same on both edges"
        )
    return _found(names, links)


def _pairs(figures: list[str], rows: list[list[str]], unit: str) -> Found:
    for figure in figures:
        if figure not in _FIGURES:
            raise ImportProblem(f"there is no figure {figure[:40]!r}; a list of pairs may have {', '.join(_FIGURES)}")
    if not figures:
        raise ImportProblem(f"this list has pairs and no figure; add a column, one of {', '.join(_FIGURES)}")
    names = Names()
    links: dict[tuple[str, str], LinkFound] = {}
    for number, row in enumerate(rows, 2):
        if len(row) != len(figures) + 2:
            raise ImportProblem(f"line {number} has {len(row)} cells, the first line {len(figures) + 2}")
        src, dst = (names.of(word.strip()) for word in row[:2])
        if src == dst:
            continue
        cells = {
            f: number_of(c, f"line {number}, {f}", f, unit if f == "rtt_ms" else "ms")
            for f, c in zip(figures, row[2:], strict=True)
        }
        links[src, dst] = LinkFound(src, dst, **cells)
    for (src, dst), link in list(links.items()):
        # a rate holds for one direction only, a round trip for both
        links.setdefault((dst, src), LinkFound(dst, src, link.rtt_ms, link.jitter_ms, link.loss))
    return _found(names, list(links.values()))


def _found(names: Names, links: list[LinkFound]) -> Found:
    if not links:
        raise ImportProblem("no pair of this matrix has a figure")
    nodes = tuple(NodeFound(name) for name in names.given.values())
    pairs = len(nodes) * (len(nodes) - 1)
    notes = [f"{len(nodes)} machines, {len(links)} of {pairs} directed pairs"]
    notes.append("memory and layer times are not in a matrix: add vram_gib and mem_gbps to the nodes that serve")
    return Found(nodes, tuple(links), tuple(notes), "a matrix of round trips")
