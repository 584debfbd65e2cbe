"""Parse the arguments of `swarm-probe`, `swarm-probe status` and `swarm-probe forget`.

A running probe has no use for this module and argparse; `cli` removes them before the daemon is imported.
"""

from __future__ import annotations

import argparse
import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Final, NoReturn

from swarm_probe.light_imports import encoded
from swarm_probe.owner_limits.compute_budget import USUAL, Allowance, parse_allowance
from swarm_probe.owner_limits.traffic_budget import DAILY_BYTES, parse_daily
from swarm_protocol import __version__
from swarm_protocol.text import safe
from swarm_protocol.trust.state_dir import default_state_dir

UNUSABLE: Final = 2  # the exit code
TOKEN_VARIABLE: Final = "SWARMTOP_TOKEN"

_EXAMPLES: Final = """examples:
  swarm-probe --join 203.0.113.7:9470 --name attic-3090
  SWARMTOP_INVITE=… swarm-probe --join 203.0.113.7:9470 --fingerprint SHA256:…      as swarmtop invite prints it
  SWARMTOP_TOKEN=… swarm-probe --join wss://swarm.example                   behind a web server with a certificate
  swarm-probe --join 203.0.113.7:9470 --dry-run      show what it would measure, send and store
  swarm-probe status --data                          what the collector has stored about this machine
  swarm-probe forget                                 delete all of that
  swarm-probe status                                 the state of the probe on this machine
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, like every other error of ours."""
        self.exit(UNUSABLE, f"{self.prog}: {safe(message, 300)}; see {self.prog} --help\n")


def probe_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="swarm-probe",
        description="Measure this machine and its paths to the other members of a swarm, for swarmtop.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--join", required=True, metavar="HOST:PORT", help="the collector; also a ws:// or wss:// URL")
    in_private = (
        f"token, if the collector requires one; better in {TOKEN_VARIABLE}, because every user can read arguments"
    )
    parser.add_argument("--token", metavar="T", help=in_private)
    parser.add_argument(
        "--fingerprint",
        metavar="SHA256:…",
        help="fingerprint of the collector's certificate (default: trust on first use)",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="allow plain text to another machine: anyone on the path can read it"
    )
    parser.add_argument(
        "--lan",
        action="store_true",
        help="measure members at private and link-local addresses (a direct cable) too, wherever the collector is",
    )
    parser.add_argument(
        "--interface",
        metavar="NAME",
        type=_interface,
        help="measure members only through this network interface, such as eth0 (default: as the system routes)",
    )
    parser.add_argument(
        "--bind",
        metavar="ADDRESS",
        type=_own_address,
        help="measure members only from this address of the machine (default: from all)",
    )
    parser.add_argument("--name", metavar="N", help="name of this machine in the swarm (default: the host's name)")
    _add_state(parser)
    usual = "memory offered for layers (default: the GPU's; without one, half of the RAM)"
    parser.add_argument("--offer-gib", metavar="GIB", type=_gib, help=usual)
    daily = (
        "maximum bytes sent and received in any 24 hours: 50MB, 2GB, none (default: 50MB); the swarm can only lower it"
    )
    parser.add_argument("--daily-bytes", metavar="SIZE", type=_daily, default=DAILY_BYTES, help=daily)
    budget = (
        "maximum CPU time for layer timing, all cores together: 10m (a day; a fifth of it in an hour), "
        f"2m/hour,10m/day, 0 (never), none (default: {USUAL} for each core)"
    )
    parser.add_argument("--compute-budget", metavar="TIME", type=_allowance, help=budget)
    gpu = f"the same for time on GPUs (default: {USUAL} for each card)"
    parser.add_argument("--gpu-budget", metavar="TIME", type=_allowance, help=gpu)
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be measured, sent and stored; do nothing"
    )
    parser.add_argument("--version", action="version", version=f"swarm-probe {__version__}")
    return parser


def status_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="swarm-probe status",
        description="Show the state of the probe on this machine; exit code 3 where none runs or it has no collector.",
        epilog="example:\n  swarm-probe status --state /var/lib/swarmtop",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_state_of_any(parser)
    parser.add_argument("--data", action="store_true", help="what the collector has stored about this machine")
    return parser


def forget_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="swarm-probe forget",
        description="Delete everything the collector has stored about this machine; stop the probe first.",
        epilog="example:\n  swarm-probe forget --state /var/lib/swarmtop",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_state_of_any(parser)
    return parser


def state_folders() -> tuple[Path, Path]:
    """Return where a probe of this user keeps its state: by default, and if `swarmtop` has started it."""
    return default_state_dir() / "probe", default_state_dir() / "local" / "probe"


def _add_state_of_any(parser: argparse.ArgumentParser) -> None:
    default, embedded = state_folders()
    said = f"key and spool (default: {default}, then {embedded}, the probe that swarmtop starts)"
    parser.add_argument("--state", metavar="DIR", type=Path, help=said)


def _add_state(parser: argparse.ArgumentParser) -> None:
    default, _ = state_folders()
    parser.add_argument(
        "--state", metavar="DIR", type=Path, default=default, help=f"key and spool (default: {default})"
    )


def _daily(text: str) -> int | None:
    try:
        return parse_daily(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _interface(text: str) -> str:
    there = [name for _, name in socket.if_nameindex()]
    if text not in there:
        raise argparse.ArgumentTypeError(f"there is no interface {text} here; there are {', '.join(there)}")
    return text


def _own_address(text: str) -> str:
    try:
        ipaddress.ip_address(text.partition("%")[0])
        with socket.socket(socket.AF_INET6 if ":" in text else socket.AF_INET, socket.SOCK_DGRAM) as trying:
            trying.bind(socket.getaddrinfo(encoded(text), 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0][4])
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not an IP address") from error
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} is not an address of this machine") from error
    return text


def _allowance(text: str) -> Allowance:
    try:
        return parse_allowance(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _gib(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not a size in GiB above 0")
    return value


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> SimpleNamespace:
    """Return the options. Exits with one line if they are unusable."""
    return SimpleNamespace(**vars(parser.parse_args(arguments)))
