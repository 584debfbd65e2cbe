"""Run the command `swarm-probe`: arguments, signals, exit codes.

Exit codes: 0 stopped · 1 an internal error (the traceback is in the state folder) · 2 unusable arguments, folder or
refused for good · 3 (status) no probe runs there, or it has no collector · 130 interrupted.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

from swarm_probe import light_imports  # first
from swarm_probe.collector_client.join_url import JoinError, parse_join
from swarm_probe.owner_limits.compute_budget import USUAL
from swarm_protocol.text import clean_name, safe
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


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["status"]:
        return _status(arguments[1:])
    if arguments[:1] == ["forget"]:
        return _forget(arguments[1:])
    options = _options(arguments)
    try:
        url = parse_join(options.join, insecure=options.insecure, pinned=options.fingerprint is not None)
        if options.fingerprint is not None:
            _check_fingerprint(options.fingerprint, url, options.join)
    except JoinError as error:
        return _fail(str(error), UNUSABLE)
    token = options.token if options.token is not None else os.environ.get(TOKEN_VARIABLE, "")
    if len(token) > MAX_TOKEN or not token.isprintable():
        return _fail(
            f"the token is invalid: it has {len(token)} characters, at most {MAX_TOKEN} printable ones", UNUSABLE
        )
    invite = os.environ.get(INVITE_VARIABLE, "")
    if len(invite) > MAX_INVITE or not invite.isprintable():
        return _fail(f"{INVITE_VARIABLE} holds no invite; copy the whole line of swarmtop invite", UNUSABLE)
    from socket import gethostname  # late: after the light imports, as all that loads much

    name = clean_name(options.name if options.name is not None else gethostname())
    if options.name is not None and name != options.name:
        print(f"swarm-probe: the name becomes {name} (A-Z a-z 0-9 . _ -, at most 32)", file=sys.stderr)
    if options.dry_run:
        return _dry_run(url, name, options, token=bool(token))
    if argv is None:  # otherwise others in this process may use them
        _drop_parser()
    if url.startswith("ws:") and not light_imports.proxies_set():  # a proxy may be reached over TLS
        light_imports.asyncio_without_tls()
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


def _check_fingerprint(fingerprint: str, url: str, join: str) -> None:
    """Raises JoinError."""
    from swarm_protocol.trust.certificate_pins import PinError, digest_of  # late: few have one

    try:
        digest_of(fingerprint)
    except PinError as error:
        raise JoinError(str(error)) from error
    if not url.startswith("wss:"):
        raise JoinError(f"--fingerprint goes with TLS, and --join {safe(join, 80)} is plain text; leave out ws://")


def _options(arguments: Sequence[str]) -> SimpleNamespace:
    light_imports.shutil_without_compressors()
    from swarm_probe.arguments import parsed, probe_parser  # late: dropped afterwards

    return parsed(probe_parser(), arguments)


def _drop_parser() -> None:
    """Free the memory of what has parsed the arguments: the daemon's modules take it, 0.4 MB."""
    for name in ("arguments", "argparse", "gettext", "locale", "shutil", "fnmatch"):
        sys.modules.pop(f"{__package__}.{name}" if name == "arguments" else name, None)
    vars(sys.modules[__package__]).pop("arguments", None)
    gc.collect()


def _dry_run(url: str, name: str, options: SimpleNamespace, *, token: bool) -> int:
    from swarm_probe.machine.host import torch_version, usable_cores
    from swarm_probe.owner_reports.dry_run import dry_run_lines  # late: a running probe does not need these

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
    from swarm_probe.arguments import parsed, status_parser  # late: as above
    from swarm_probe.owner_reports.status import describe, is_running, read_status

    options = parsed(status_parser(), arguments)
    if options.data:
        return _about(options.state, forget=False)
    folders = _folders(options.state)
    running = [folder for folder in folders if is_running(folder)]
    if not running:
        looked = " or in ".join(map(str, folders))
        return _fail(
            f"no probe runs with the state in {looked}; start one with swarm-probe --join HOST:PORT", UNREACHABLE
        )
    code = OK
    for number, folder in enumerate(running):
        status = read_status(folder)
        if status is None:
            return _fail(f"the probe with the state in {folder} has written no status yet; ask again", UNREACHABLE)
        for line in [""] * bool(number) + describe(status, time.time_ns()):
            print(line)
        code = code if status.joined else UNREACHABLE
    return code


def _forget(arguments: Sequence[str]) -> int:
    from swarm_probe.arguments import forget_parser, parsed  # late: as above

    return _about(parsed(forget_parser(), arguments).state, forget=True)


def _folders(given: Path | None) -> Sequence[Path]:
    from swarm_probe.arguments import state_folders  # late: as above

    return state_folders() if given is None else (given,)


def _about(given: Path | None, *, forget: bool) -> int:
    from swarm_probe.collector_client.data_requests import AboutError, ask  # late: as above
    from swarm_probe.owner_reports.status import is_running, read_status
    from swarm_protocol.trust.identity import IdentityError

    found = [(folder, status) for folder in _folders(given) if (status := read_status(folder)) is not None]
    joined = [(folder, status) for folder, status in found if status.url]
    if not joined:
        looked = " or in ".join(map(str, _folders(given)))
        return _fail(
            f"no probe has joined a collector with the state in {looked}; name its folder with --state", UNUSABLE
        )
    if len(joined) > 1:
        return _fail(
            f"there are two probes, with the state in {joined[0][0]} and in {joined[1][0]}; name one with --state",
            UNUSABLE,
        )
    folder, status = joined[0]
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
    import asyncio  # late: the caller may have imported it without TLS

    from swarm_probe.daemon import Daemon
    from swarm_probe.owner_reports.status import StateError, StateLock
    from swarm_probe.spool import SpoolError
    from swarm_protocol.trust.identity import IdentityError

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

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # Until `live` has set its own. For Python's own handler asyncio sets another one, whose replacement then describes
    # the task that it interrupts (1 MB: `inspect`).
    signal.signal(signal.SIGINT, interrupt)
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
    import traceback  # late: hardly ever needed

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
    import logging  # late: as above

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    ours = logging.getLogger("swarm_probe")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False
    logging.getLogger("websockets").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
