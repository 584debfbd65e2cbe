"""Stack the windows of round trips of several nodes into the columns, or the rows, of the link table.

Windows come from the wire as columns. Making rows of each batch, and columns of all rows again, took a third of the
time of writing them.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any, Final, NamedTuple

from swarm_protocol.messages.column_batch import DEFAULTS, LinkColumns
from swarm_storage.rows import BUCKET_NS, TABLES, Row

LINK: Final = TABLES["link"]
_fields: Final = operator.attrgetter(*LINK.fields)


class NodeWindows(NamedTuple):
    """Windows that one node measured. Nodes are rows of the node table."""

    src: int
    dst: Sequence[int]
    links: LinkColumns


def stacked(windows: Sequence[NodeWindows]) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    """Return (columns, cells of the columns that no batch has: the fields' defaults), together all of the table's."""
    at_ns = [*chain.from_iterable(links.at_ns for _, _, links in windows)]
    columns: dict[str, Sequence[Any]] = {
        "bucket": [ts // BUCKET_NS for ts in at_ns],
        "src": [*chain.from_iterable(repeat(src, len(dst)) for src, dst, _ in windows)],
        "dst": [*chain.from_iterable(dst for _, dst, _ in windows)],
        "ts": at_ns,
    }
    constants: dict[str, Any] = {}
    for name, found in zip(LINK.fields, zip(*[_fields(links) for _, _, links in windows], strict=True), strict=True):
        if not any(found):  # no column is empty
            constants[name] = DEFAULTS[name]
        elif None in found:
            columns[name] = [
                *chain.from_iterable(
                    repeat(DEFAULTS[name], len(dst)) if cells is None else cells
                    for cells, (_, dst, _) in zip(found, windows, strict=True)
                )
            ]
        else:
            columns[name] = [*chain.from_iterable(found)]
    return columns, constants


def rows_of(windows: Sequence[NodeWindows]) -> list[Row]:
    """Return the rows of the link table, ordered by key."""
    columns, constants = stacked(windows)
    cells = (columns[name] if name in columns else repeat(constants[name], len(columns["ts"])) for name in LINK.columns)
    return sorted(zip(*cells, strict=True), key=operator.itemgetter(*range(len(LINK.key))))
