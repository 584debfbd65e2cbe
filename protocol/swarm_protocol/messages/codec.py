"""Encode and decode messages as MessagePack; check the size before decoding, and refuse NaN and infinity after."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from swarm_protocol.messages.samples import Sample

MAX_MESSAGE_BYTES: Final = 1 << 20  # a batch is far smaller; a larger message comes from no probe of ours

_encoder = msgspec.msgpack.Encoder()
_T = TypeVar("_T")


class DecodeError(ValueError):
    """These bytes are no valid message; the text says why, in one line."""


def encode(message: msgspec.Struct) -> bytes:
    return _encoder.encode(message)


def decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes, limit_bytes: int = MAX_MESSAGE_BYTES) -> _T:
    """Decode a message. Raises DecodeError."""
    if len(data) > limit_bytes:
        raise DecodeError(f"a message of {len(data)} bytes; at most {limit_bytes} are taken")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(str(error)) from error


def require_finite(sample: Sample) -> None:
    """Refuse NaN and infinity: NaN passes every range check (comparisons are false) and SQLite keeps it as NULL."""
    names, values_of = _floats(type(sample))
    for value in values_of(sample):
        if value is not None and value - value != 0.0:  # of NaN and of infinity
            wrong = next(name for name in names if getattr(sample, name) is value)
            raise DecodeError(f"{wrong} is {value}, not a finite number")


@functools.cache  # on first use: the types are evaluated for it, and a viewer of a file needs none
def _floats(kind: type[msgspec.Struct]) -> tuple[tuple[str, ...], Callable[[Any], tuple[float | None, ...]]]:
    """Return the fields of a sample that may hold a float, and their getter; called for every incoming sample."""
    names = tuple(
        field.name
        for field in msgspec.structs.fields(kind)
        if "float" in str(field.type) and "Literal" not in str(field.type)
    )
    if not names:
        return names, lambda _: ()
    if len(names) == 1:
        return names, lambda sample: (getattr(sample, names[0]),)
    return names, operator.attrgetter(*names)
