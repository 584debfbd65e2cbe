"""Help two members reach each other by UDP, and explain links that have no path.

The address that STUN reported for a member goes to those that it may meet. Where none of their packets get through, the
collector is the one that knows both ends: it says why, and how long a detour via itself would take. That is an
estimate, the sum of each end's recent lowest round trip, and never has quantiles, because quantiles do not add up.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from swarm_collector.members.addresses import literal
from swarm_collector.members.membership import Member
from swarm_protocol.messages.probe_messages import Mapped
from swarm_protocol.messages.samples import HostSample, LinkSample, NatKind, Sample, WhyNoPath
from swarm_protocol.units import NS_PER_S

BELIEVED_NS: Final = 300 * NS_PER_S  # an idle probe reports its host figures every minute


@dataclass(slots=True)
class _CollectorRtt:
    rtt_ms: float
    at_ns: int


def mapped_for(of: Member, to: Member) -> tuple[Mapped, ...]:
    """Return where the port of `of` is seen from outside. A loopback address is useless elsewhere."""
    if not of.reach.mapped:
        return ()
    here = literal(to.where.observed)
    on_this_machine = here is not None and here.is_loopback
    return tuple(
        mapped
        for mapped in of.reach.mapped
        if (address := literal(mapped.host)) is not None and (on_this_machine or not address.is_loopback)
    )


def why_no_path(ours: NatKind | None, theirs: NatKind | None) -> WhyNoPath:
    """Return why no packet passed between two ends."""
    if "udp-blocked" in (ours, theirs):
        return "udp-blocked"
    if "symmetric" in (ours, theirs) and "none" not in (ours, theirs) and None not in (ours, theirs):
        return "hard-nats"
    return "no-answer"


def _was_there(peer: Member, ago_ns: int, steady_ns: int) -> bool:
    """Return whether the peer was connected `ago_ns` before now.

    A probe waits for late answers before it reports a window: meanwhile the peer may have left.
    """
    if peer.session is not None:
        return not peer.goodbye
    return peer.gone_ns > 0 and steady_ns - peer.gone_ns <= ago_ns


class Rendezvous:
    def __init__(self, member: Callable[[str], Member | None]) -> None:
        self._member = member
        self._rtts: dict[str, _CollectorRtt] = {}  # node → round trip between it and this collector

    def explained(
        self, member: Member, samples: Sequence[Sample], now_ns: int, steady_ns: int, *, stun_proven: bool
    ) -> tuple[Sample, ...]:
        """Return `samples` of `member`, in which a link without a path carries the reason and the time of the detour.

        `now_ns` is wall clock, `steady_ns` the clock of the members' sessions. `stun_proven`: datagrams do reach this
        collector, so it is the member's network that blocks them.
        """
        return tuple(
            [
                sample
                if type(sample) is LinkSample and sample.path != "none"
                else self._one(member, sample, now_ns, steady_ns, stun_proven)
                for sample in samples
            ]
        )

    def _one(self, member: Member, sample: Sample, now_ns: int, steady_ns: int, stun_proven: bool) -> Sample:
        if isinstance(sample, HostSample):
            if sample.collector_rtt_ms is not None and abs(now_ns - sample.at_ns) <= BELIEVED_NS:
                self._rtts[member.node_id] = _CollectorRtt(sample.collector_rtt_ms, now_ns)
            doubtful = sample.nat == "udp-blocked" and not stun_proven
            return msgspec.structs.replace(sample, nat=None) if doubtful else sample
        if not isinstance(sample, LinkSample) or sample.path != "none" or sample.sent == 0:
            return sample
        peer = self._member(sample.peer)
        if peer is None or not _was_there(peer, now_ns - sample.at_ns, steady_ns):
            return sample  # nobody was there to answer
        if abs(now_ns - sample.at_ns) > BELIEVED_NS:
            return sample  # from a spool: what is known now does not describe that time
        why = why_no_path(member.reach.nat, peer.reach.nat)
        # a recent hop went over TCP: there is a way, though not for datagrams
        detour_ms = self._detour_ms(member.node_id, peer.node_id, now_ns) if sample.hop_ms is None else None
        if detour_ms is None:
            return msgspec.structs.replace(sample, why=why)
        return LinkSample(
            at_ns=sample.at_ns,
            peer=sample.peer,
            path="relayed",
            sent=0,  # in this direction
            lost=0,
            rtt_p50_ms=detour_ms,
            loaded=sample.loaded,
            why=why,
        )

    def _detour_ms(self, src: str, dst: str, now_ns: int) -> float | None:
        there, back = self._rtts.get(src), self._rtts.get(dst)
        if there is None or back is None or now_ns - min(there.at_ns, back.at_ns) > BELIEVED_NS:
            return None
        return there.rtt_ms + back.rtt_ms
