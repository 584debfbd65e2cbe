"""Cut a stream of WebSocket bytes where a frame ends (RFC 6455, 5.2): frames are counted before they are parsed.

A parser that is handed 256 KiB of empty pings answers forty thousand of them before anybody else has a turn. Pure.
"""

from __future__ import annotations

from typing import Final

from swarm_collector.ingest.quotas import FRAME_BYTES

_MASK_BYTES: Final = 4


class FrameCutter:
    """Follows one connection's stream, which has to be cut where `cut` says."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = 0  # bytes of the last frame that have not come yet

    def cut(self, data: bytes, most: float) -> tuple[int, float]:
        """How many bytes of `data` may be parsed, and what the frames that begin in them cost: `most` or a little more.

        0 bytes: the next frame's header is not there in full; come again with more behind it.
        """
        at, cost, size = 0, 0.0, len(data)
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                continue
            if cost >= most or (header := _header(data, at)) is None:
                break
            head_bytes, payload_bytes = header
            cost += 1 + payload_bytes // FRAME_BYTES
            at += head_bytes
            self._left = payload_bytes
        return at, cost


def _header(data: bytes, at: int) -> tuple[int, int] | None:
    """(bytes of the header, bytes of the payload) of the frame that begins at `at`; None: not all of it is there."""
    if len(data) < at + 2:
        return None
    payload_bytes, head_bytes = data[at + 1] & 0x7F, 2
    if payload_bytes >= 126:
        extended = 2 if payload_bytes == 126 else 8
        head_bytes += extended
        if len(data) < at + head_bytes:
            return None
        payload_bytes = int.from_bytes(data[at + 2 : at + head_bytes], "big")
    if data[at + 1] & 0x80:  # what a client sends is masked; the parser refuses what is not
        head_bytes += _MASK_BYTES
    return None if len(data) < at + head_bytes else (head_bytes, payload_bytes)
