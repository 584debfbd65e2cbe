"""What a frame of the collector's stream means, and when to try again. No socket, no clock: `live` owns those."""

from __future__ import annotations

import random
from typing import Final

from swarm_protocol.messages.viewer_messages import Diff, Keyframe
from swarm_protocol.snapshot.frames import FrameError, apply_diff, decode_keyframe
from swarm_protocol.snapshot.swarm import Swarm

# The first retry comes soon, since most losses are a restart; the cap keeps a dead collector's viewers cheap.
RETRY_BASE_S: Final = 0.5
RETRY_CAP_S: Final = 15.0


class FrameFollower:
    """Keyframes and diffs in, Swarms out. After a gap nothing comes out until the next keyframe."""

    def __init__(self) -> None:
        self.swarm: Swarm | None = None
        self._seq = 0
        self._broken = False
        self._ask = False

    def take(self, message: Keyframe | Diff) -> Swarm | None:
        """The swarm after `message`; None where a frame before it is missing.

        Raises FrameError for a keyframe that cannot be read: asking for another would bring the same.
        """
        if isinstance(message, Keyframe):
            self.swarm, self._seq, self._broken = decode_keyframe(message.body), message.seq, False
            return self.swarm
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
        """True once for each gap: now a KeyframeRequest has to be sent."""
        ask, self._ask = self._ask, False
        return ask


class Backoff:
    """Exponential with full jitter, so that the viewers of a restarted collector do not return in step."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._attempt = 0

    def delay_s(self) -> float:
        ceiling = min(RETRY_CAP_S, RETRY_BASE_S * 2.0 ** min(self._attempt, 16))
        self._attempt += 1
        return self._rng.uniform(0.0, ceiling)

    def reset(self) -> None:
        self._attempt = 0
