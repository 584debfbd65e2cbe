"""The options that commands share, written once: where the numbers come from, and what the swarm is asked.

Only argparse here: what an option means is worked out later (`config`), so that `--help` imports nothing heavy.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable
from typing import Final, NoReturn, get_args

from swarm_predict.options import AllReduce, Engine
from swarm_protocol.ports import DEFAULT_PORT
from swarm_protocol.trust import certificate_pins
from swarm_protocol.units import NS_PER_S, ns_from_iso
from swarm_protocol.values import parse_address, parse_duration_s

DEFAULT_MODEL: Final = "llama-3.1-8b"
TOKEN_VARIABLE: Final = "SWARMTOP_TOKEN"  # so that a token need not stand in a process list
ENGINES: Final[tuple[str, ...]] = get_args(Engine)
ALL_REDUCES: Final[tuple[str, ...]] = get_args(AllReduce)

LOOPBACK: Final = "127.0.0.1"
EVERY_ADDRESS: Final = "0.0.0.0"
YEAR_S: Final = 366 * 86_400

_AGO = re.compile(r"-(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")  # as in `-1h`, `-1h30m`


class Parser(argparse.ArgumentParser):
    """Complains in one line, and shows an example in every --help."""

    def __init__(self, prog: str, description: str, example: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"example:\n{_indented(example)}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines())


# ---------------------------------------------------------------- values


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
            raise argparse.ArgumentTypeError(f"takes a whole number ({text!r} is none)") from None
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
            raise argparse.ArgumentTypeError(f"takes a number ({text!r} is none)") from None
        if not math.isfinite(value) or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"takes {low:g} to {high:g} ({text} is outside)")
        return value

    return convert


def draft(text: str) -> tuple[int, float, float]:
    """An argparse type: `K:A` or `K:A:MS`."""
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise argparse.ArgumentTypeError(f"takes guesses:chance[:ms] as 4:0.7:5 ({text!r} is none)")
    ms = number(0, 60_000)(parts[2]) if len(parts) == 3 else 0.0
    return whole(1, 64)(parts[0]), number(0, 1)(parts[1]), ms


def pin(text: str) -> tuple[str, int, int]:
    """An argparse type: `NODE:FIRST-LAST`, or `NODE:LAYER`."""
    match = re.fullmatch(r"(.+):(\d+)(?:-(\d+))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"takes node:first-last as attic:0-19 ({text!r} is none)")
    return match[1], int(match[2]), int(match[3] or match[2])


MACHINE_KEYS: Final = ("vram", "gbps", "tflops", "up", "down", "rtt")


def machine(text: str) -> tuple[str, dict[str, float]] | str:
    """An argparse type: `NAME:vram=GIB[,gbps=..][,tflops=..][,up=..][,down=..][,rtt=..]`, or nodes by name as text."""
    name, colon, rest = text.partition(":")
    if not colon:
        from swarm_protocol.snapshot.named_nodes import BadNodes, parse_nodes  # reads the table of devices

        try:
            parse_nodes(text)
        except BadNodes as error:
            raise argparse.ArgumentTypeError(f"{error}; or write name:vram=24,gbps=900,up=100,rtt=20") from None
        return text
    given: dict[str, float] = {}
    for part in rest.split(",") if rest else []:
        key, _, value = part.partition("=")
        if key not in MACHINE_KEYS:
            raise argparse.ArgumentTypeError(f"knows {', '.join(MACHINE_KEYS)} ({key!r} is none)")
        given[key] = number(0, 1e9)(value)
    if not colon or not name or "vram" not in given:
        raise argparse.ArgumentTypeError(f"takes name:vram=24,gbps=900,up=100,rtt=20; vram at least ({text!r} is none)")
    return name, given


def losses(text: str) -> tuple[str, float]:
    """An argparse type: `NODE=PER-HOUR`."""
    name, equals, rate = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"takes node=times-an-hour as attic=0.5 ({text!r} is none)")
    return name, number(0, 3600)(rate)


def length_s(text: str) -> float:
    """An argparse type: a length of time in seconds, from a minute to a year."""
    try:
        return parse_duration_s(text, least_s=60, most_s=YEAR_S)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def fingerprint(text: str) -> str:
    """An argparse type: the fingerprint of a collector's certificate."""
    try:
        return certificate_pins.text_of(certificate_pins.digest_of(text))
    except certificate_pins.PinError as error:
        raise argparse.ArgumentTypeError(f"takes SHA256:… ({error})") from None


def when(text: str) -> str:
    """An argparse type: an ISO time or `-90s`, `-15m`, `-1h`, `-2d`; worked out against a clock by `at_ns`."""
    try:
        at_ns(text, now_ns=0)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"takes a time as 2026-11-23T14:00 (UTC, or with +hh:mm) or -1h ({text!r} is none)"
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


# ---------------------------------------------------------------- groups


def add_source(parser: argparse.ArgumentParser, *, file: bool = True) -> None:
    """--swarm, --db, --connect, at most one of them; none means the collector on this machine."""
    group = parser.add_argument_group("where the numbers come from (default: the collector on this machine)")
    one = group.add_mutually_exclusive_group()
    one.add_argument("--connect", metavar="HOST:PORT", type=address, help=f"a running collector (port {DEFAULT_PORT})")
    one.add_argument("--db", metavar="FILE", help="a recorded database")
    if file:
        one.add_argument("--swarm", metavar="FILE.toml", help="a swarm written by hand")
        one.add_argument(
            "--nodes",
            metavar="'4090@Utrecht fiber, …'",
            help="machines by name: [NAME=][Nx]DEVICE[@CITY] [LINE], with commas between; no file needed",
        )
    add_token(group)
    group.add_argument(
        "--at",
        metavar="TIME",
        type=when,
        help="of a database: the moment to show; -45s is before its end (default: the last moment with machines)",
    )


def add_token(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE, ""),
        help=f"where the collector asks for one (default: ${TOKEN_VARIABLE})",
    )
    parser.add_argument(
        "--fingerprint",
        type=fingerprint,
        metavar="SHA256:…",
        help="the collector's certificate (default: what was seen first)",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="plain text to another machine: anybody on the way can read it"
    )


def add_baselines(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--baselines", action="store_true", help="what others published for models of this size, not measured here"
    )


def add_question(parser: argparse.ArgumentParser) -> None:
    """What the swarm is asked: model, weights, engine, and the load."""
    group = parser.add_argument_group("what is asked")
    group.add_argument(
        "--model",
        metavar="NAME|PATH",
        help="a name, a Hugging Face id, an Ollama tag, a config.json, a folder or a GGUF file (default: what runs, "
        f"what a database was recorded for, the swarm file's [model], else {DEFAULT_MODEL} or the largest below it "
        "that fits)",
    )
    group.add_argument(
        "--weights",
        metavar="FORMAT",
        help="fp16, int8, nvfp4, mlx-4bit, 4.5bpw, q4_k_m, … "
        "(default: the checkpoint's own, what a database was recorded for, else fp16 or what fits)",
    )
    group.add_argument(
        "--engine", choices=ENGINES, metavar="ENGINE", help=f"{', '.join(ENGINES)} (default: what runs, else chain)"
    )
    group.add_argument(
        "--running", metavar="PLACEMENT", help="what runs now, as a:0-20,b:21-31 (default: what the source says)"
    )
    group.add_argument(
        "--context", type=whole(0, 10_000_000), default=128, metavar="N", help="tokens in the KV cache (128)"
    )
    group.add_argument(
        "--prompt", type=whole(1, 10_000_000), default=128, metavar="N", help="tokens of the prompt, for TTFT (128)"
    )
    group.add_argument("--batch", type=whole(1, 65_536), default=1, metavar="B", help="sequences decoded together (1)")
    group.add_argument(
        "--streams",
        type=whole(1, 65_536),
        metavar="S",
        help="requests in flight (1; to plan throughput: what fills it)",
    )
    group.add_argument("--activations", choices=("fp16", "fp32", "int8"), default="fp16", help="between stages (fp16)")
    group.add_argument("--client", metavar="NODE", help="where tokens go (default: the file's, else the first stage)")
    group.add_argument(
        "--compute-scale",
        type=number(0.01, 100),
        metavar="X",
        help="measured / predicted compute (1, or --calibration)",
    )
    group.add_argument(
        "--hop-overhead-ms",
        type=number(0, 60_000),
        metavar="X",
        help="software cost of each hop (0, or --calibration)",
    )
    group.add_argument(
        "--client-ms",
        type=number(0, 60_000),
        metavar="X",
        help="what the client takes for each step (0, or --calibration)",
    )
    group.add_argument("--calibration", metavar="FILE", help="constants that swarmtop calibrate found")
    group.add_argument(
        "--prefill-chunk", type=whole(1, 10_000_000), default=0, metavar="N", help="tokens of the prompt sent at once"
    )
    group.add_argument(
        "--all-reduce", choices=ALL_REDUCES, default=ALL_REDUCES[0], help="how tensor parallel nodes meet (doubling)"
    )
    group.add_argument(
        "--offload-gbps",
        type=number(0, 10_000),
        default=0.0,
        metavar="X",
        help="weights that do not fit are read from RAM or disk at X GB/s (0: they must fit)",
    )
    group.add_argument(
        "--draft",
        type=draft,
        default=(0, 0.0, 0.0),
        metavar="K:A[:MS]",
        help="speculative decoding: K guesses a step, each right with chance A, MS milliseconds each",
    )
    group.add_argument(
        "--redundancy", type=whole(1, 16), default=1, metavar="R", help="machines that compute each stage, compared (1)"
    )
    group.add_argument(
        "--spot-check", type=number(0, 1), default=0.0, metavar="P", help="fraction of steps computed again later (0)"
    )
    group.add_argument(
        "--proof-ms", type=number(0, 1e9), default=0.0, metavar="X", help="to prove one layer for one token (0)"
    )
    group.add_argument(
        "--priors",
        choices=("published", "none"),
        default="published",
        help="what is not measured: as machines like it gave others (published), or data sheets at their word (none)",
    )
    group.add_argument("--seed", type=whole(0, 2**31), default=0, metavar="N", help="of the bootstrap (0)")
