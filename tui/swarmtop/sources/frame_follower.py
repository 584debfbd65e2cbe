"""Decode the frames of a collector's stream.

No socket: `live` owns it, and imports this module, and with it numpy, while it waits for the first frame.
"""

from __future__ import annotations

from swarm_protocol.messages.viewer_messages import Diff, Keyframe
from swarm_protocol.snapshot.frames import FrameError, apply_diff, decode_keyframe
from swarm_protocol.snapshot.links.compact_links import COMPACT_NODES, compacted
from swarm_protocol.snapshot.swarm import Swarm


class FrameFollower:
    """Keyframes and diffs in, Swarms out. After a gap nothing is returned until the next keyframe."""

    def __init__(self, *, compact: bool = False) -> None:
        """`compact`: hold the links of a large swarm in as few bytes as a screen needs."""
        self._compact = compact
        self.swarm: Swarm | None = None
        self._seq = 0
        self._broken = False
        self._ask = False

    def take(self, message: Keyframe | Diff) -> Swarm | None:
        """Return the swarm after `message`; None if an earlier frame is missing.

        Raises FrameError for a keyframe that cannot be read: requesting another would not help.
        """
        if isinstance(message, Keyframe):
            swarm = decode_keyframe(message.body)
            if self._compact and len(swarm) >= COMPACT_NODES:
                swarm = compacted(swarm)
            self.swarm, self._seq, self._broken = swarm, message.seq, False
            return swarm
        if self._broken:
            return None
        if self.swarm is None or message.seq != self._seq + 1:
            self._gap()
            return None
        try:
            self.swarm = apply_diff(self.swarm, message.body)
        except FrameError:
            self._gap()
            return None
        self._seq = message.seq
        return self.swarm

    def _gap(self) -> None:
        self._broken = self._ask = True

    def must_ask(self) -> bool:
        """Return True once for each gap: a KeyframeRequest has to be sent."""
        ask, self._ask = self._ask, False
        return ask
