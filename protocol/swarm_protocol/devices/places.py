"""Look up round trips between cities in the bundled matrix, and estimate paths from access kinds and cities.

data/rtt.u16.xz holds the mean round trips between 217 cities that WonderNetwork's servers measured (data/NOTICE.md).
A city near one of them counts as that one (data/near.csv); any other is refused with the nearest names, since a guessed
distance would be a wrong number.
"""

from __future__ import annotations

import csv
import difflib
import functools
import lzma
import re
import unicodedata
from array import array
from typing import Final

import msgspec

from swarm_protocol.devices.data_sheets import DATA
from swarm_protocol.devices.internet_access import ACCESS

SAME_CITY_MS: Final = 2.0  # through the exchange of that city
SAME_REGION_MS: Final = 10.0  # where no city is given: a path of some hundred kilometres
LIKE_ENOUGH: Final = 0.62  # of difflib; below it "Germany" is like Le Mans
_UNIT_MS: Final = 0.1


class UnknownCity(ValueError):
    """No such city in the matrix; the message names the nearest names."""


class Estimate(msgspec.Struct, frozen=True):
    """An estimated round trip between two ends with known access and cities."""

    rtt_ms: float
    jitter_ms: float


def city_named(text: str) -> str:
    """Return the city of the matrix that `text` names, or that is near. Raises UnknownCity."""
    known, near = _cities(), _near()
    word = _plain(text)
    if word in known:
        return known[word]
    if word in near:
        return near[word]
    close = difflib.get_close_matches(word, [*known, *near], 3, LIKE_ENOUGH)
    shown = ", ".join(dict.fromkeys(known.get(each) or each.title() for each in close))
    hint = f"the nearest names are {shown}" if shown else "name a large city there"
    raise UnknownCity(f"no round trips of {text!r}: {hint}, or write a [[link]] with rtt_ms")


def between_cities_ms(one: str, other: str) -> float:
    """Return the mean round trip between two cities as `city_named` returns them."""
    if one == other:
        return SAME_CITY_MS
    names = _names()
    i, j = sorted((names.index(one), names.index(other)))
    return float(_matrix()[j * (j - 1) // 2 + i]) * _UNIT_MS


def path_estimate(
    access_a: str | None, city_a: str | None, access_b: str | None, city_b: str | None
) -> Estimate | None:
    """Estimate a path; None if neither cities nor access say enough. Kinds and cities are checked before."""
    lines = [ACCESS[access] for access in (access_a, access_b) if access is not None]
    apart = city_a is not None and city_b is not None and city_a != city_b
    if len(lines) == 2 and all(line.local for line in lines) and not apart:
        # one network of one place: only the two interfaces lie in between
        return Estimate(sum(line.rtt_ms for line in lines), sum(line.jitter_ms for line in lines))
    if city_a is not None and city_b is not None:
        way_ms = between_cities_ms(city_a, city_b)
    elif len(lines) == 2:
        way_ms = SAME_REGION_MS
    else:
        return None
    return Estimate(way_ms + sum(line.rtt_ms for line in lines), sum(line.jitter_ms for line in lines))


def _plain(text: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", text.strip().lower().replace("ø", "o").replace("ł", "l"))
    letters = "".join(char for char in ascii_only if not unicodedata.combining(char))
    return re.sub(r"[^a-z]+", " ", letters).strip()


def _text(file: str) -> str:
    return (DATA / file).read_text("utf-8")


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(_text("cities.txt").splitlines())


@functools.cache
def _cities() -> dict[str, str]:
    return {_plain(name): name for name in _names()}


@functools.cache
def _near() -> dict[str, str]:
    return {_plain(alias): city for alias, city in csv.reader(_text("near.csv").splitlines())}


@functools.cache
def _matrix() -> array[int]:
    """Return pairs i < j, column by column of j, in tenths of a millisecond."""
    packed = (DATA / "rtt.u16.xz").read_bytes()
    values = array("H", lzma.decompress(packed))
    if _BIG_ENDIAN:
        values.byteswap()
    return values


_BIG_ENDIAN: Final = array("H", b"\x01\x00")[0] != 1
