"""Print the verify table: reported values and the truth, as text or as objects for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from swarm_lab.emulation.scenario import Scenario
from swarm_lab.emulation.truth import Truth
from swarm_lab.verification.verify import Row, compare
from swarm_protocol.messages.samples import HopSample, LinkSample, Sample, UplinkSample
from swarm_storage.store import open_store


def stored_samples(database: Path) -> list[tuple[str, str, Sample]]:
    """Return (src name, dst name, sample) of links, hops and uplinks, ordered by time. Raises StoreError."""
    store = open_store(f"sqlite:///{database}", read_only=True)
    try:
        names = {node.node_id: node.name for node in store.reader.nodes()}
        return [
            (names[node_id], names[sample.peer], sample)
            for node_id, sample in store.reader.samples(kinds=("link", "hop", "uplink"))
            if isinstance(sample, LinkSample | HopSample | UplinkSample)
        ]
    finally:
        store.close()


def verify_run(scenario: Scenario, truth_file: Path, database: Path) -> list[Row]:
    """Verify a run. Raises StoreError, TruthError."""
    return compare(scenario, Truth.read(truth_file), stored_samples(database))


def verify_text(rows: Sequence[Row]) -> str:
    lines = [f"{'LINK':<28} {'METRIC':<12} {'REPORTED':>10} {'TRUTH':>10} {'ERROR':>9} {'BOUND':>7}  WINDOWS"]
    for row in rows:
        relative = row.metric in ("uplink_mbps", "hop_ms")
        error, bound = (f"{v:.1%}" if relative else f"{v:.3f}" for v in (row.error, row.bound))
        mark = "" if row.ok else "  EXCEEDED"
        lines.append(
            f"{f'{row.src} → {row.dst}':<28} {row.metric:<12} {row.reported:>10.3f} {row.truth:>10.3f}"
            f" {error:>9} {bound:>7}  {row.windows:>7}{mark}"
        )
    exceeded = sum(not row.ok for row in rows)
    lines.append(f"{len(rows)} figures compared, {exceeded} outside their bound" if rows else "nothing was measured")
    return "\n".join(lines)


def verify_json(rows: Sequence[Row]) -> str:
    fields = ("src", "dst", "metric", "reported", "truth", "error", "bound", "windows", "ok")
    return json.dumps([{field: getattr(row, field) for field in fields} for row in rows], indent=2)
