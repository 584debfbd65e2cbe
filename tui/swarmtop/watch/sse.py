"""Split server-sent events from bytes as they arrive (WHATWG HTML §9.2.6); only `data` matters here.

Pieces may end anywhere: in a line, between CR and LF, within a UTF-8 character.
"""

from __future__ import annotations

from typing import Final

MAX_EVENT_BYTES: Final = 1 << 20  # a chunk of a completion has some hundred bytes


class StreamError(ValueError):
    """The stream is not an engine's; one line that says why."""


class EventStream:
    def __init__(self) -> None:
        self._line = b""
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, piece: bytes) -> list[str]:
        """Return the data of every event that `piece` completes. Raises StreamError for an event without end."""
        events = []
        if self._after_cr and piece:
            piece = piece.removeprefix(b"\n")  # the second half of a CRLF
        self._after_cr = piece.endswith(b"\r") if piece else self._after_cr
        *lines, self._line = (self._line + piece).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                events.append(b"\n".join(self._data).decode("utf-8", "replace"))
                self._data, self._size = [], 0
        if self._size + len(self._line) > MAX_EVENT_BYTES:
            raise StreamError(f"one event of this stream has more than {MAX_EVENT_BYTES >> 10} KiB")
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
