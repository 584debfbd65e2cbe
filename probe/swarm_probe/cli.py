"""The command `swarm-probe`: arguments, signals, exit codes.

Exit codes: 0 stopped · 1 an internal error (the traceback is in the state folder) · 2 unusable arguments, folder or
refused for good · 3 (status) no probe runs there, or it has no collector · 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from swarm_probe import light_imports  # noqa: F401 - first
from swarm_probe.collector_client.join_url import JoinError, parse_join
from swarm_probe.owner_limits.compute_budget import USUAL, Allowance, parse_allowance
from swarm_probe.owner_limits.traffic_budget import DAILY_BYTES, parse_daily
from swarm_protocol import __version__
from swarm_protocol.text import clean_name, safe
from swarm_protocol.trust.certificate_pins import PinError, digest_of
from swarm_protocol.trust.identity import IdentityError, default_state_dir
from swarm_protocol.units import BYTES_PER_GIB

if TYPE_CHECKING:
    from swarm_probe.daemon_config import ProbeConfig

OK: Final = 0
INTERNAL: Final = 1
UNUSABLE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130
TOKEN_VARIABLE: Final = "SWARMTOP_TOKEN"
INVITE_VARIABLE: Final = "SWARMTOP_INVITE"  # never an argument: those can be read by every user
MAX_INVITE: Final = 64
CRASH_FILE: Final = "crash.log"
MAX_TOKEN: Final = 200

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


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["status"]:
        return _status(arguments[1:])
    if arguments[:1] == ["forget"]:
        return _forget(arguments[1:])
    options = probe_parser().parse_args(arguments)
    try:
        url = parse_join(options.join, insecure=options.insecure, pinned=options.fingerprint is not None)
        if options.fingerprint is not None:
            digest_of(options.fingerprint)
            if not url.startswith("wss:"):
                raise JoinError(
                    f"--fingerprint goes with TLS, and --join {safe(options.join, 80)} is plain text; leave out ws://"
                )
    except (JoinError, PinError) as error:
        return _fail(str(error), UNUSABLE)
    token = options.token if options.token is not None else os.environ.get(TOKEN_VARIABLE, "")
    if len(token) > MAX_TOKEN or not token.isprintable():
        return _fail(
            f"the token is invalid: it has {len(token)} characters, at most {MAX_TOKEN} printable ones", UNUSABLE
        )
    invite = os.environ.get(INVITE_VARIABLE, "")
    if len(invite) > MAX_INVITE or not invite.isprintable():
        return _fail(f"{INVITE_VARIABLE} holds no invite; copy the whole line of swarmtop invite", UNUSABLE)
    name = clean_name(options.name if options.name is not None else socket.gethostname())
    if options.name is not None and name != options.name:
        print(f"swarm-probe: the name becomes {name} (A-Z a-z 0-9 . _ -, at most 32)", file=sys.stderr)
    if options.dry_run:
        return _dry_run(url, name, options, token=bool(token))
    from swarm_probe.daemon_config import ProbeConfig  # late: --help and --dry-run do not need it

    config = ProbeConfig(
        url=url,
        name=name,
        state=options.state,
        token=token,
        invite=invite,
        pin=options.fingerprint,
        by_authority=options.fingerprint is None and options.join.lower().startswith(("wss://", "https://")),
        daily_bytes=options.daily_bytes,
        lan=options.lan,
        bind_host=options.bind or "",
        interface=options.interface or "",
        compute_budget=options.compute_budget,
        gpu_budget=options.gpu_budget,
        offer_bytes=None if options.offer_gib is None else int(options.offer_gib * BYTES_PER_GIB),
    )
    return _run(config)


def probe_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="swarm-probe",
        description="Measures this machine and its paths to the other members of a swarm, for swarmtop.",
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
        help="measure members through this network interface alone, as eth0 (default: as the system routes)",
    )
    parser.add_argument(
        "--bind",
        metavar="ADDRESS",
        type=_own_address,
        help="measure members from this address of the machine alone (default: from all)",
    )
    parser.add_argument("--name", metavar="N", help="name of this machine in the swarm (default: the host's name)")
    _add_state(parser)
    usual = "memory offered for layers (default: the GPU's; without one, half of the RAM)"
    parser.add_argument("--offer-gib", metavar="GIB", type=_gib, help=usual)
    daily = "most bytes in any 24 hours, both directions: 50MB, 2GB, none (default: 50MB); the swarm can only lower it"
    parser.add_argument("--daily-bytes", metavar="SIZE", type=_daily, default=DAILY_BYTES, help=daily)
    budget = (
        "most processor time for layer timing, all cores together: 10m (a day; a fifth of it in an hour), "
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


def _add_state(parser: argparse.ArgumentParser) -> None:
    default = default_state_dir() / "probe"
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
            trying.bind(socket.getaddrinfo(text, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0][4])
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


def _dry_run(url: str, name: str, options: argparse.Namespace, *, token: bool) -> int:
    from swarm_probe.dry_run import dry_run_lines  # late: a running probe does not need these
    from swarm_probe.machine.host import torch_version, usable_cores

    for line in dry_run_lines(
        url,
        name,
        str(options.state),
        token=token,
        torch=torch_version(),
        daily_bytes=options.daily_bytes,
        processor=options.compute_budget or USUAL.times(usable_cores()),
        gpu=str(options.gpu_budget or f"{USUAL} for each card"),
    ):
        print(line)
    return OK


def _status(arguments: Sequence[str]) -> int:
    from swarm_probe.status import describe, is_running, read_status  # late: as above

    parser = _Parser(
        prog="swarm-probe status",
        description="Shows the state of the probe on this machine; exit code 3 where none runs or it has no collector.",
        epilog="example:\n  swarm-probe status --state /var/lib/swarmtop",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_state(parser)
    parser.add_argument("--data", action="store_true", help="what the collector has stored about this machine")
    options = parser.parse_args(arguments)
    folder = options.state
    status = read_status(folder)
    if options.data:
        return _about(folder, forget=False)
    if not is_running(folder):
        return _fail(
            f"no probe runs with the state in {folder}; start one with swarm-probe --join HOST:PORT", UNREACHABLE
        )
    if status is None:
        return _fail(f"the probe with the state in {folder} has written no status yet; ask again", UNREACHABLE)
    for line in describe(status, time.time_ns()):
        print(line)
    return OK if status.joined else UNREACHABLE


def _forget(arguments: Sequence[str]) -> int:
    parser = _Parser(
        prog="swarm-probe forget",
        description="Has the collector delete everything it has stored about this machine; stop the probe first.",
        epilog="example:\n  swarm-probe forget --state /var/lib/swarmtop",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_state(parser)
    return _about(parser.parse_args(arguments).state, forget=True)


def _about(folder: Path, *, forget: bool) -> int:
    from swarm_probe.collector_client.data_requests import AboutError, ask  # late: as above
    from swarm_probe.status import is_running, read_status

    status = read_status(folder)
    if status is None or not status.url:
        return _fail(
            f"no probe has joined a collector with the state in {folder}; name its folder with --state", UNUSABLE
        )
    if forget and is_running(folder):
        return _fail("the probe still runs here and would send new samples; stop it first", UNUSABLE)
    try:
        for line in ask(status.url, folder, folder / "node.key", forget=forget):
            print(line)
    except AboutError as error:
        return _fail(str(error), UNREACHABLE)
    except IdentityError as error:
        return _fail(str(error), UNUSABLE)
    return OK


def _run(config: ProbeConfig) -> int:
    from swarm_probe.daemon import Daemon
    from swarm_probe.spool import SpoolError
    from swarm_probe.status import StateError, StateLock

    _log_to_stderr()
    state = config.state
    interrupted = False

    async def live() -> str | None:
        daemon = Daemon(config)
        loop = asyncio.get_running_loop()

        def stop(number: signal.Signals) -> None:
            nonlocal interrupted
            interrupted = number == signal.SIGINT
            for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(each)  # a second signal ends the process at once
            daemon.stop()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop, number)
        return await daemon.run()

    try:
        lock = StateLock(state)
    except StateError as error:
        return _fail(str(error), UNUSABLE)
    try:
        refused = asyncio.run(live())
    except (IdentityError, SpoolError) as error:
        return _fail(str(error), UNUSABLE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the one place that reports unforeseen errors
        return _crashed(state, error)
    finally:
        lock.close()
    if refused is not None:
        return _fail(refused, UNUSABLE)
    return INTERRUPTED if interrupted else OK


def _crashed(state: Path, error: Exception) -> int:
    where = state / CRASH_FILE
    try:
        where.write_text("".join(traceback.format_exception(error)))
    except OSError:
        traceback.print_exception(error)
        return INTERNAL
    return _fail(f"internal error ({type(error).__name__}); please report the traceback in {where}", INTERNAL)


def _fail(line: str, code: int) -> int:
    print(f"swarm-probe: {line}", file=sys.stderr)
    return code


def _log_to_stderr() -> None:
    """Log our own lines only: errors of libraries are reported in our own words."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    ours = logging.getLogger("swarm_probe")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False
    logging.getLogger("websockets").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
