"""Limit each sender: connections, frames and samples a second, kinds of layer time, new names.

A healthy probe sends far less; a full spool is accepted at once. A sender above a rate is read more slowly, which
fills its own spool and no memory here. Pure.
"""

from __future__ import annotations

import functools
import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from swarm_protocol.messages.samples import ComputeSample, RooflineSample, Sample
from swarm_protocol.rate_limit import TokenBucket

SAMPLES_PER_S: Final = 100.0  # 512 peers are 51 windows a second
SAMPLE_BURST: Final = 300_000.0  # a full spool
_LIMITED: Final = frozenset((ComputeSample, RooflineSample))
MAX_KINDS: Final = 2_048  # distinct layer times and rooflines in one session; each is a row that is never pruned
NEW_PER_S: Final = 64 / 3600  # nodes never seen before, of one network, without an invite
NEW_BURST: Final = 256.0
MAX_NETWORKS: Final = 65_536

# WebSocket frames of any kind: messages, pieces of them, pings, pongs, closes. A large frame counts as several.
FRAMES_PER_S: Final = 50.0
FRAME_BURST: Final = 500.0  # a spool that is caught up with
STRANGER_FRAMES_PER_S: Final = 5.0  # before a session is admitted: one message is enough
STRANGER_FRAME_BURST: Final = 32.0
FRAME_BYTES: Final = 64 << 10  # one more frame for each of these
SOURCE_FRAMES_PER_S: Final = 1_000.0  # of all connections of one source; two hundred lab probes send 100 a second
SOURCE_FRAME_BURST: Final = 2_000.0
SOURCE_CONNECTIONS_PER_S: Final = 20.0  # a TLS handshake costs 2 ms of CPU
SOURCE_CONNECTION_BURST: Final = 512.0  # a lab that reconnects at once, twice
MAX_SOURCES: Final = 16_384


@functools.lru_cache(16_384)
def source_of(host: str) -> str:
    """Return the part of an address that one machine cannot choose: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), 64), strict=False))


@dataclass(slots=True)
class FrameQuota:
    """The frame quota of one connection: its own rate, and the one it shares with other connections of its source."""

    shared: TokenBucket | None = None  # None: not shared, as behind a proxy, where all come from one address
    own: TokenBucket = field(default_factory=lambda: TokenBucket(STRANGER_FRAMES_PER_S, STRANGER_FRAME_BURST))

    def admitted(self) -> None:
        """Grant the rate of a member or viewer."""
        self.own = TokenBucket(FRAMES_PER_S, FRAME_BURST)

    def wait_s(self, frames: float, now_ns: int) -> float:
        """Count `frames`; return the seconds to wait before the next one is read."""
        wait_s = self.own.wait_s(now_ns, frames)
        return wait_s if self.shared is None else max(wait_s, self.shared.wait_s(now_ns, frames))


@dataclass(slots=True)
class SourceQuota:
    connections: TokenBucket = field(
        default_factory=lambda: TokenBucket(SOURCE_CONNECTIONS_PER_S, SOURCE_CONNECTION_BURST)
    )
    frames: TokenBucket = field(default_factory=lambda: TokenBucket(SOURCE_FRAMES_PER_S, SOURCE_FRAME_BURST))


class Sources:
    """The quotas of recently connected sources; the least recent are forgotten."""

    def __init__(self, most: int = MAX_SOURCES) -> None:
        self._most = most
        self._of: OrderedDict[str, SourceQuota] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def of(self, source: str) -> SourceQuota:
        quota = self._of.pop(source, None) or SourceQuota()
        self._of[source] = quota
        if len(self._of) > self._most:
            self._of.popitem(last=False)
        return quota


class SampleQuota:
    """The sample quota of one session."""

    __slots__ = ("_bucket", "_kinds")

    def __init__(self) -> None:
        self._bucket = TokenBucket(SAMPLES_PER_S, SAMPLE_BURST)
        self._kinds: set[tuple[object, ...]] | None = None  # made on demand: most sessions need none

    def wait_s(self, count: int, now_ns: int) -> float:
        return self._bucket.wait_s(now_ns, count)

    def known_kinds(self, samples: Sequence[Sample]) -> tuple[Sample, ...]:
        """Return the samples without those that would be one kind too many."""
        if _LIMITED.isdisjoint(map(type, samples)):
            return tuple(samples)
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


class NewMemberQuota:
    """The quota of new members, over all sessions."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, TokenBucket] = OrderedDict()

    def wait_s(self, network: str, now_ns: int) -> float:
        """Return 0 if one more may join, else the seconds to wait."""
        bucket = self._of.pop(network, None) or TokenBucket(NEW_PER_S, NEW_BURST)
        self._of[network] = bucket
        if len(self._of) > MAX_NETWORKS:
            self._of.popitem(last=False)
        if not bucket.allows(now_ns):
            return 1 / NEW_PER_S
        bucket.wait_s(now_ns)
        return 0.0
