"""Encode and decode messages as MessagePack; check the size before decoding, and refuse NaN and infinity after."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
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


def require_finite(samples: Sequence[Sample]) -> None:
    """Refuse NaN and infinity: NaN passes every range check (comparisons are false) and SQLite keeps it as NULL. All
    floats are added up first, which is quicker than a look at each, and finite only if all are: none is large."""
    found = ((_floats(type(sample))[1], sample) for sample in samples)
    total = sum(filter(None, chain.from_iterable([values_of(sample) for values_of, sample in found])))
    if total - total == 0.0:
        return
    for sample in samples:
        names, values_of = _floats(type(sample))
        for name, value in zip(names, values_of(sample), strict=True):
            if value is not None and not math.isfinite(value):
                raise DecodeError(f"{name} is {value}, not a finite number")


def finite(columns: Iterable[Sequence[float | None]]) -> bool:
    """Return whether all values of some columns are finite."""
    total = sum(filter(None, chain.from_iterable(columns)))
    return total - total == 0.0


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
