"""Match follow-ups (RFC 8972 §4.7) to the packets whose T3 they correct. Pure.

Each answer states when the reflector's kernel sent an earlier one, usually the one before it. Answers may overtake each
other, and one that is lost takes its follow-up along: the packet before it then keeps the T3 that its own answer gave.
"""

from __future__ import annotations

from typing import Final

from swarm_probe.udp.stamp.stamp_window import SentPacket
from swarm_protocol.packets.stamp_packet import FollowUp, ReflectedPacket, time_ns

MAX_KEPT: Final = 64  # answers, and follow-ups that came before theirs: packets do not overtake more than that


class FollowUps:
    def __init__(self) -> None:
        self._answered: dict[int, SentPacket] = {}  # reflector's seq → packet without its follow-up, oldest first
        self._early: dict[int, int] = {}  # reflector's seq → T3 of an answer that has not come yet

    def take(self, reply: ReflectedPacket, packet: SentPacket) -> None:
        """Take the reply to this packet, whose preliminary times are set."""
        follow_up = reply.follow_up
        if follow_up is None:
            return
        if follow_up.sent_ntp:
            self._apply(follow_up, time_ns(follow_up.sent_ntp, reply.error))
        early_ns = self._early.pop(reply.seq, None)
        if early_ns is not None:
            packet.correct(early_ns)
            return
        self._answered[reply.seq] = packet
        # a reflector that had no stamp for its last answer will have none for this one
        packet.awaits_follow_up = follow_up.sent_ntp != 0 or reply.seq == 0
        if not packet.awaits_follow_up:
            self._give_up(reply.seq)
        if len(self._answered) > MAX_KEPT:
            self._answered.pop(next(iter(self._answered))).awaits_follow_up = False

    def _apply(self, follow_up: FollowUp, sent_ns: int) -> None:
        packet = self._answered.pop(follow_up.seq, None)
        if packet is not None:
            packet.correct(sent_ns)
        else:
            self._early[follow_up.seq] = sent_ns
            if len(self._early) > MAX_KEPT:
                del self._early[next(iter(self._early))]
        self._give_up(follow_up.seq)

    def _give_up(self, before: int) -> None:
        """Stop waiting for the follow-ups of earlier answers: those that carry them were lost, or overtaken."""
        for seq, packet in self._answered.items():
            if seq < before:
                packet.awaits_follow_up = False
