"""Check samples before they are spooled, because one invalid sample makes the collector refuse its whole batch."""

from __future__ import annotations

from collections.abc import Iterable

from swarm_protocol.messages.codec import DecodeError, encode
from swarm_protocol.messages.probe_messages import Batch, decode_from_probe
from swarm_protocol.messages.samples import ProbeSample
from swarm_protocol.text import safe


def admissible(samples: Iterable[ProbeSample]) -> tuple[list[ProbeSample], list[str]]:
    """Return (those that the collector accepts, why the others are not accepted)."""
    taken: list[ProbeSample] = []
    refused: list[str] = []
    for sample in samples:
        try:
            decode_from_probe(encode(Batch(epoch=0, seq=1, samples=(sample,))))
        except (DecodeError, OverflowError, TypeError) as error:
            refused.append(f"{type(sample).__name__}: {safe(str(error), 120)}")
        else:
            taken.append(sample)
    return taken, refused
