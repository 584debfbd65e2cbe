"""Put the newest windows of many links into a builder by columns, since one object for each row would be slow.

What a window shows besides itself (a hop's round trip, whether a transfer disturbed it) is decided sample by sample, in
order of time. So only links of which nothing else is to be decided go by columns: both directions of a pair are
undisturbed, and each has at most one hop, which fits its round trip. `replay` does the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final

from swarm_protocol.messages.samples import HopSample, Sample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.links.first_windows import FirstWindows
from swarm_protocol.snapshot.swarm import Way
from swarm_storage.rows import TABLES, Row  # source, target and time, then the fields of a sample

Ends = tuple[str, str]  # node ids
LINK: Final = TABLES["link"]
FIT: Final = 0.1  # of a round trip
_AT: Final = {name: 3 + at for at, name in enumerate(LINK.fields)}
_COLUMNS: Final = [_AT[name] for name in FirstWindows._fields[3:]]
LOADED: Final = _AT["loaded"]


def fits(hop: HopSample, at_ns: int, rtt_p50_ms: float | None) -> bool:
    """Return whether the hop takes what its path's round trip of `at_ns` takes, and little more: nothing has changed
    between."""
    if rtt_p50_ms is None or at_ns <= hop.at_ns:
        return True
    return 0 <= hop.min_ms - rtt_p50_ms * (1 - FIT) <= 2 * FIT * rtt_p50_ms


def plain(links: dict[Ends, Row], found: Collection[tuple[str, Sample]]) -> set[Ends]:
    """Return the links that go by columns. `links`: the newest row of each; `found`: the
    newest hops."""
    hops = [(node_id, hop) for node_id, hop in found if isinstance(hop, HopSample)]
    counts = Counter((node_id, hop.peer) for node_id, hop in hops)
    others = {ends for ends, count in counts.items() if count > 1}
    for node_id, hop in hops:
        row = links.get((node_id, hop.peer))
        if row is not None and not fits(hop, row[2], row[_AT["rtt_p50_ms"]]):
            others.add((node_id, hop.peer))
    others |= {ends for ends, row in links.items() if row[LOADED] or row[_AT["rtt_min_ms"]] is None}
    return {(src, dst) for src, dst in links if (src, dst) not in others and (dst, src) not in others}


def has_stamps(row: Row) -> bool:
    """Return whether a window that no transfer disturbed has stamps of the path itself."""
    stamped = row[_AT["stamped_out_ms"]] is not None and row[_AT["stamped_back_ms"]] is not None
    return stamped and row[_AT["path"]] in ("direct", "punched")


def put_plain(builder: SwarmBuilder, links: dict[Ends, Row], chosen: Collection[Ends]) -> None:
    """Put these links into a builder that knows none of them."""
    found = sorted(_known(builder, links, chosen), key=lambda each: each[2][2])
    if not found:
        return
    sources, targets, rows, ends = zip(*found, strict=True)
    columns = list(zip(*rows, strict=True))
    windows = FirstWindows(sources, targets, columns[2], *(columns[at] for at in _COLUMNS))
    address, interface = _AT["address"], _AT["interface"]
    ways = [
        (src, Way(peer, row[address] or "", row[interface] or ""))
        for src, row, (_, peer) in zip(sources, rows, ends, strict=True)
        if row[address] is not None or row[interface] is not None
    ]
    builder.first_windows(windows, ways)


def _known(
    builder: SwarmBuilder, links: dict[Ends, Row], chosen: Collection[Ends]
) -> Iterator[tuple[int, int, Row, Ends]]:
    """Yield (source, target, row, ends) of those whose nodes the builder has."""
    for ends, row in links.items():
        if ends in chosen:
            src, dst = builder.row_of(ends[0]), builder.row_of(ends[1])
            if src is not None and dst is not None and src != dst:
                yield src, dst, row, ends
