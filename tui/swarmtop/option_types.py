"""Convert the text of an option to its value, or explain in one line what the option takes: argparse types that
commands share."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from swarm_protocol.addresses import parse_address
from swarm_protocol.sizes_durations import UNITS, parse_duration_s
from swarm_protocol.units import NS_PER_S, ns_from_iso

if TYPE_CHECKING:
    from swarm_predict.serving.lengths import Lengths

RATE_S: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}
MAX_TOKENS: Final = 10_000_000
LENGTHS: Final = "a number of tokens, lognormal:MEDIAN:P95 or a file with one on each line"

LOOPBACK: Final = "127.0.0.1"
EVERY_ADDRESS: Final = "0.0.0.0"
YEAR_S: Final = 366 * 86_400

_AGO = re.compile(rf"-(?:\d+(?:\.\d+)?{UNITS})+")  # as in `-1h`, `-1h30m`


def address(text: str) -> tuple[str, int]:
    """An argparse type: the address of a collector; `:PORT` is on this machine."""
    return _address(text, any_host=LOOPBACK)


def listen_address(text: str) -> tuple[str, int]:
    """An argparse type: an address to listen on; `:PORT` is every address of this machine."""
    return _address(text, any_host=EVERY_ADDRESS)


def _address(text: str, *, any_host: str) -> tuple[str, int]:
    try:
        host, port, _ = parse_address(text, any_host=any_host)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return host, port


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: an integer from `low` to `high`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"takes a whole number, not {text!r}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"takes {low} to {high} ({value} is outside)")
        return value

    return convert


def number(low: float, high: float) -> Callable[[str], float]:
    """An argparse type: a finite number from `low` to `high`."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"takes a number, not {text!r}") from None
        if not math.isfinite(value) or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"takes {low:g} to {high:g} ({text} is outside)")
        return value

    return convert


def per_second(text: str) -> float:
    """An argparse type: a rate as `0.5/s`, `30/min`, `1000/h`, or a plain number a second."""
    number_text, slash, unit = text.partition("/")
    if slash and unit not in RATE_S:
        raise argparse.ArgumentTypeError(f"takes a rate as 0.5/s, 30/min or 1000/h, not {text!r}")
    return number(1e-6, 1e6)(number_text) / RATE_S[unit or "s"]


def lengths(text: str) -> int | Lengths | str:
    """An argparse type: tokens as a number, as `lognormal:MEDIAN:P95`, or the name of a file that lists them."""
    if text.isascii() and text.isdigit():
        return whole(1, MAX_TOKENS)(text)
    from swarm_predict.errors import PredictError
    from swarm_predict.serving.lengths import parse_lengths

    try:
        return parse_lengths(text) or text
    except PredictError as error:
        raise argparse.ArgumentTypeError(f"takes {LENGTHS}: {error}") from None


def draft(text: str) -> tuple[int, tuple[float, ...], float]:
    """An argparse type: `K:A` or `K:A:MS`; A may be one chance for each position, as 0.9,0.8,0.7."""
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise argparse.ArgumentTypeError(f"takes tokens:probability[:ms] as 4:0.7:5 or 4:0.9,0.8:5, not {text!r}")
    ms = number(0, 60_000)(parts[2]) if len(parts) == 3 else 0.0
    guesses, chances = whole(1, 64)(parts[0]), tuple(number(0, 1)(chance) for chance in parts[1].split(","))
    if len(chances) > guesses:
        raise argparse.ArgumentTypeError(
            f"takes at most one probability for each draft token ({text!r} has {len(chances)} for {guesses})"
        )
    return guesses, chances, ms


def tree(text: str) -> tuple[int, float]:
    """An argparse type: `B:A`."""
    parts = text.split(":")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"takes alternatives:chance as 3:0.25, not {text!r}")
    return whole(2, 64)(parts[0]), number(0, 1)(parts[1])


def pin(text: str) -> tuple[str, int, int]:
    """An argparse type: `NODE:FIRST-LAST`, or `NODE:LAYER`."""
    match = re.fullmatch(r"(.+):(\d+)(?:-(\d+))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"takes node:first-last as attic:0-19, not {text!r}")
    return match[1], int(match[2]), int(match[3] or match[2])


MACHINE_KEYS: Final = ("vram", "gbps", "tflops", "up", "down", "rtt")


def machine(text: str) -> tuple[str, dict[str, float]] | str:
    """An argparse type: `NAME:vram=GIB[,gbps=..][,tflops=..][,up=..][,down=..][,rtt=..]`, or nodes by name as text."""
    name, colon, rest = text.partition(":")
    if not colon:
        from swarm_protocol.swarm_files.named_nodes import BadNodes, parse_nodes  # reads the table of devices

        try:
            parse_nodes(text)
        except BadNodes as error:
            raise argparse.ArgumentTypeError(f"{error}; or write name:vram=24,gbps=900,up=100,rtt=20") from None
        return text
    given: dict[str, float] = {}
    for part in rest.split(",") if rest else []:
        key, _, value = part.partition("=")
        if key not in MACHINE_KEYS:
            raise argparse.ArgumentTypeError(f"knows {', '.join(MACHINE_KEYS)}, not {key!r}")
        given[key] = number(0, 1e9)(value)
    if not colon or not name or "vram" not in given:
        raise argparse.ArgumentTypeError(f"takes name:vram=24,gbps=900,up=100,rtt=20; vram at least, not {text!r}")
    return name, given


def losses(text: str) -> tuple[str, float]:
    """An argparse type: `NODE=PER-HOUR`."""
    name, equals, rate = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"takes node=times-an-hour as attic=0.5, not {text!r}")
    return name, number(0, 3600)(rate)


def length_s(text: str) -> float:
    """An argparse type: a length of time in seconds, from a minute to a year."""
    try:
        return parse_duration_s(text, least_s=60, most_s=YEAR_S)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def fingerprint(text: str) -> str:
    """An argparse type: the fingerprint of a collector's certificate."""
    from swarm_protocol.trust import certificate_pins  # hashlib and ssl, for those who pin one

    try:
        return certificate_pins.text_of(certificate_pins.digest_of(text))
    except certificate_pins.PinError as error:
        raise argparse.ArgumentTypeError(f"takes SHA256:… ({error})") from None


def when(text: str) -> str:
    """An argparse type: an ISO time or `-90s`, `-15m`, `-1h`, `-2d`; computed against a clock by `at_ns`."""
    try:
        at_ns(text, now_ns=0)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"takes a time as 2026-11-23T14:00 (UTC, or with +hh:mm) or -1h, not {text!r}"
        ) from None
    return text


def at_ns(text: str, now_ns: int) -> int:
    """The moment that `when` accepted. Raises ValueError on anything else."""
    if _AGO.fullmatch(text):
        return now_ns - round(parse_duration_s(text[1:]) * NS_PER_S)
    if text == "now":
        return now_ns
    try:
        return ns_from_iso(text)
    except (OverflowError, ValueError):
        raise ValueError(text) from None


def joined_times(argv: list[str]) -> list[str]:
    """`--since -1h` written as argparse can read it: a value that begins with a dash has to be joined with `=`."""
    fixed: list[str] = []
    for word in argv:
        if fixed and fixed[-1] in ("--since", "--until", "--at") and _AGO.fullmatch(word):
            fixed[-1] = f"{fixed[-1]}={word}"
        else:
            fixed.append(word)
    return fixed
