"""Split a stream of WebSocket bytes at frame boundaries (RFC 6455, 5.2), so that frames are counted before they are
parsed.

A parser that receives 256 KiB of empty pings answers forty thousand of them before anything else runs. Pure.
"""

from __future__ import annotations

from typing import Final

from swarm_collector.ingest.quotas import FRAME_BYTES

try:
    from websockets.speedups import apply_mask
except ImportError:  # a build of websockets without its C extension
    from websockets.utils import apply_mask

_MASK_BYTES: Final = 4
_BINARY_MESSAGE: Final = 0x82  # the first byte of a binary message that is one frame, without extensions
_MASKED: Final = 0x80
_SHORT: Final = tuple(bytes((_BINARY_MESSAGE, size)) for size in range(126))  # heads of frames, by payload


def whole_message(data: bytes, most_bytes: int) -> tuple[bytes, int] | None:
    """Return (payload, length of the frame) where `data` begins with a binary message in one masked frame, as nearly
    all of a probe's are. None: anything else, what is longer than `most_bytes`, or not all of it: for the parser."""
    if len(data) < 2 or data[0] != _BINARY_MESSAGE:
        return None
    size, at = data[1] - _MASKED, 2
    if size == 126:
        size, at = int.from_bytes(data[2:4], "big"), 4
    elif size == 127 or size < 0:
        return None
    payload = at + _MASK_BYTES
    end = payload + size
    if len(data) < end or size > most_bytes:
        return None
    return apply_mask(data[payload:end], data[at:payload]), end


def is_begun(data: bytes, most_bytes: int) -> bool:
    """Return whether `data` is a part of what `whole_message` takes, of at most so many bytes."""
    if len(data) < 4 or data[0] != _BINARY_MESSAGE or data[1] < _MASKED or data[1] == _MASKED | 127:
        return False
    size, at = data[1] - _MASKED, 2
    if size == 126:
        size, at = int.from_bytes(data[2:4], "big"), 4
    return size <= most_bytes and len(data) < at + _MASK_BYTES + size


def binary_frame(message: bytes) -> bytes:
    """Return a server's message as one frame. `websockets` makes the same in ten times as long."""
    size = len(message)
    if size < len(_SHORT):
        return _SHORT[size] + message
    if size < 1 << 16:
        return b"\x82\x7e" + size.to_bytes(2, "big") + message
    return b"\x82\x7f" + size.to_bytes(8, "big") + message


class FrameCutter:
    """Follow one connection's stream, which has to be split where `cut` says."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = 0  # bytes of the last frame that have not come yet

    @property
    def between_frames(self) -> bool:
        return not self._left

    def cut(self, data: bytes, most: float) -> tuple[int, float]:
        """Return how many bytes of `data` may be parsed, and what the frames that begin in them cost: `most` or a
        little more.

        0 bytes: the next frame's header is incomplete; call again with more behind it.
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
    """Return (header bytes, payload bytes) of the frame that begins at `at`; None: it is incomplete."""
    if len(data) < at + 2:
        return None
    payload_bytes, head_bytes = data[at + 1] & 0x7F, 2
    if payload_bytes >= 126:
        extended = 2 if payload_bytes == 126 else 8
        head_bytes += extended
        if len(data) < at + head_bytes:
            return None
        payload_bytes = int.from_bytes(data[at + 2 : at + head_bytes], "big")
    if data[at + 1] & 0x80:  # clients mask their frames; the parser refuses others
        head_bytes += _MASK_BYTES
    return None if len(data) < at + head_bytes else (head_bytes, payload_bytes)
