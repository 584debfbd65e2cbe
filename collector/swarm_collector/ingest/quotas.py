"""How much one stranger may cost: samples a second, kinds of layer time, and new names from one network.

What a healthy probe sends is far below; a spool of days is let in at once. Who exceeds a rate is read more slowly,
which fills its own spool and nothing of ours. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from swarm_collector.bucket import Bucket
from swarm_protocol.messages.samples import ComputeSample, RooflineSample, Sample

SAMPLES_PER_S: Final = 100.0  # 512 peers are 51 windows a second
SAMPLE_BURST: Final = 300_000.0  # a full spool
MAX_KINDS: Final = 2_048  # layer times and rooflines of one session that are told apart; rows for ever, each of them
NEW_PER_S: Final = 64 / 3600  # nodes never seen before, of one network, that no invite vouches for
NEW_BURST: Final = 256.0
MAX_NETWORKS: Final = 65_536


class SampleQuota:
    """Of one session."""

    __slots__ = ("_bucket", "_kinds")

    def __init__(self) -> None:
        self._bucket = Bucket(SAMPLES_PER_S, SAMPLE_BURST)
        self._kinds: set[tuple[object, ...]] | None = None  # made when first wanted: most sessions are many

    def wait_s(self, count: int, now_ns: int) -> float:
        return self._bucket.wait_s(now_ns, count)

    def known_kinds(self, samples: Sequence[Sample]) -> tuple[Sample, ...]:
        """Without what would be one kind too many."""
        return tuple(sample for sample in samples if self._take(sample))

    def _take(self, sample: Sample) -> bool:
        if isinstance(sample, ComputeSample):
            kind: tuple[object, ...] = (
                sample.device, sample.model, sample.dtype, sample.phase, sample.batch, sample.context
            )  # fmt: skip
        elif isinstance(sample, RooflineSample):
            kind = (sample.device, sample.dtype)
        else:
            return True
        if self._kinds is None:
            self._kinds = set()
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            return False
        self._kinds.add(kind)
        return True


class Newcomers:
    """Of all sessions."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, Bucket] = OrderedDict()

    def wait_s(self, network: str, now_ns: int) -> float:
        """0: one more may come; else after how many seconds to ask again."""
        bucket = self._of.pop(network, None) or Bucket(NEW_PER_S, NEW_BURST)
        self._of[network] = bucket
        if len(self._of) > MAX_NETWORKS:
            self._of.popitem(last=False)
        if bucket.full(now_ns):
            return 1 / NEW_PER_S
        bucket.wait_s(now_ns)
        return 0.0
