"""Match the kernel's time stamps of sent packets to those packets."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

MAX_DEPARTING: Final = 128  # packets whose time stamp is awaited; the oldest never got one
_T = TypeVar("_T")


class TransmitTimestamps(Generic[_T]):
    def __init__(self) -> None:
        self._awaited: dict[int, _T] = {}
        self._token = 0

    def expect(self, packet: _T) -> int:
        """Return the token to send this packet with."""
        self._token = (self._token + 1) % (1 << 32)
        self._awaited[self._token] = packet
        while len(self._awaited) > MAX_DEPARTING:
            del self._awaited[next(iter(self._awaited))]
        return self._token

    def take(self, token: int) -> _T | None:
        return self._awaited.pop(token, None)
