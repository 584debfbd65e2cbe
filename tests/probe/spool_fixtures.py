"""A spool in a folder, and what waits in it."""

from __future__ import annotations

from pathlib import Path

from swarm_probe.spool import Spool
from swarm_protocol.messages.probe_messages import Batch, decode_from_probe
from swarm_protocol.messages.samples import EventSample, Sample

NOW_NS = 1_700_000_000_000_000_000


def note(n: int) -> EventSample:
    return EventSample(at_ns=NOW_NS + n, kind="note", detail=f"sample {n}")


def open_spool(folder: Path, said: list[str] | None = None, **limits: int) -> Spool:
    lines = said if said is not None else []
    return Spool(folder, now_ns=lambda: NOW_NS, say=lines.append, **limits)


def batches(spool: Spool) -> list[Batch]:
    """All that waits, in order, decoded by the collector's own decoder."""
    found: list[Batch] = []
    seq = spool.committed_seq
    while (record := spool.next_after(seq)) is not None:
        batch = decode_from_probe(record[1])
        assert isinstance(batch, Batch)
        assert batch.seq == record[0] > seq
        seq = batch.seq
        found.append(batch)
    return found


def details(spool: Spool) -> list[str]:
    samples: list[Sample] = [sample for batch in batches(spool) for sample in batch.samples]
    return [sample.detail for sample in samples if isinstance(sample, EventSample)]
