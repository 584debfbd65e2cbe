"""Exchange Python objects with the worker process over a pipe.

Pickle, because both ends are this program and nobody else can write to the pipe. Arrays follow the objects as they lie
in memory: the links of a large swarm are not copied on the way, and read-only arrays of one value stay one value.
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import IO, Any, Final

import numpy as np

PROTOCOL: Final = 5  # the first that leaves arrays out of the stream
_LENGTH: Final = struct.Struct("!Q")


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        """Send an array that repeats one value, which pickle would write out cell by cell, as that value."""
        if type(value) is np.ndarray and value.size > 1 and not any(value.strides):
            return np.broadcast_to, (value[(0,) * value.ndim], value.shape)
        return NotImplemented


def write(stream: IO[bytes], value: object) -> None:
    """Write one object. Raises OSError if the other end is gone, and what pickle raises before anything is written."""
    arrays: list[pickle.PickleBuffer] = []
    body = io.BytesIO()
    _Pickler(body, PROTOCOL, buffer_callback=arrays.append).dump(value)
    parts = [body.getbuffer(), *(array.raw() for array in arrays)]
    stream.write(b"".join(map(_LENGTH.pack, (len(parts), *map(len, parts)))))
    for part in parts:
        stream.write(part)
    stream.flush()


def read(stream: IO[bytes]) -> list[bytearray]:
    """Return the next object, still to be decoded. Raises EOFError if the other end is gone."""
    (count,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    lengths = [_LENGTH.unpack(_exactly(stream, _LENGTH.size))[0] for _ in range(count)]
    return [_exactly(stream, length) for length in lengths]


def decode(parts: list[bytearray]) -> Any:
    return pickle.loads(parts[0], buffers=parts[1:])


def _exactly(stream: IO[bytes], length: int) -> bytearray:
    found = bytearray(length)
    free = memoryview(found)
    while free:
        count = stream.readinto(free)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        free = free[count:]
    return found
