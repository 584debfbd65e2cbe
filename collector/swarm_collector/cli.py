"""Run the command `swarm-collector`: parse arguments, report an invalid one in one line, return an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from swarm_collector.options import DEFAULT_MODEL, DEFAULT_WEIGHTS, TOKEN_VARIABLE, Options, Unusable, options
from swarm_collector.process import file_descriptors, memory
from swarm_collector.process.event_loop import make_event_loop
from swarm_collector.transport.log_filter import LogFilter
from swarm_protocol import blas_threads
from swarm_protocol.addresses import address_text
from swarm_protocol.messages.operator_messages import OPERATOR_FILE, Operator
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.text import safe
from swarm_protocol.trust.identity import IdentityError, load_or_create_key
from swarm_protocol.trust.loopback import is_loopback

if TYPE_CHECKING:
    from swarm_collector.ingest.store_client import StoreClient
    from swarm_collector.settings import Settings

DONE, INTERNAL, UNUSABLE, INTERRUPTED = 0, 1, 2, 130  # exit codes, as for every command
PARENT_EVERY_S: Final = 1.0
# How long the writer's thread waits for a busy event loop, several times a commit. Python's default is ten times as
# long, which made acknowledgements during a flood three times as late.
SWITCH_S: Final = 0.0005

_log = logging.getLogger("swarm_collector")


def main(argv: Sequence[str] | None = None) -> None:
    blas_threads.use_one()
    try:
        code = run(options(argv))
    except Unusable as error:
        print(f"swarm-collector: {safe(str(error), limit=500)}", file=sys.stderr)
        code = UNUSABLE
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - in full in the log, in one line for the user
        _log.error("the collector has failed", exc_info=error)
        print(f"swarm-collector: internal error ({type(error).__name__}); the log above has it", file=sys.stderr)
        code = INTERNAL
    sys.exit(code)


def focus_of(model: str, weights: str) -> Focus:
    """Return the focus for this model. Raises Unusable."""
    from swarm_collector.focus_model import read_model
    from swarm_predict.model.weight_formats import canonical
    from swarm_predict.types import PredictError

    try:
        shape = read_model(model)
        dtype = canonical(weights)
        hop_bytes = int(shape.hop_bytes(1, "fp16"))
    except PredictError as error:
        raise Unusable(str(error)) from error
    return Focus(model=shape.name, layer=shape.layer, dtype=dtype, hop_bytes=hop_bytes, vocab=shape.vocab)


def run(chosen: Options) -> int:
    """Run until SIGTERM, SIGINT or the end of the parent. Raises Unusable."""
    from swarm_collector.downloads.downloads import NO_WHEEL, wheel_of_file
    from swarm_collector.downloads.wheel import WheelError
    from swarm_collector.ingest.store_client import StoreClient
    from swarm_collector.settings import Settings
    from swarm_collector.transport.certificate import CertificateError, digest_of, load_or_make
    from swarm_storage.errors import StoreError

    os.umask(0o077)  # the store contains members' addresses
    log_limit = set_up_logging()
    file_descriptors.raise_limit()
    sys.setswitchinterval(SWITCH_S)
    memory.settle()
    parent = os.getppid()
    focus = focus_of(chosen.model or DEFAULT_MODEL, chosen.weights or DEFAULT_WEIGHTS)
    try:
        if chosen.store == f"sqlite:///{chosen.state / 'swarm.db'}":
            chosen.state.mkdir(parents=True, exist_ok=True)
        secret = load_or_create_key(chosen.state / "collector.key")
        certificate = None if is_loopback(chosen.host) else load_or_make(chosen.state)
        if chosen.proxy_cert is not None:
            digest_of(chosen.proxy_cert)  # report an unusable certificate now
        if chosen.wheel not in (None, NO_WHEEL):
            wheel_of_file(Path(chosen.wheel))
        store_client = StoreClient(chosen.store, retain_ns=chosen.retain_ns)
        secret = store_client.secret(secret)
    except (IdentityError, CertificateError, StoreError, WheelError) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        where = error.filename or chosen.state
        raise Unusable(f"cannot use {where} ({error.strerror}); give --state another folder") from error
    settings = Settings(
        focus=focus,
        focus_is_named=chosen.model is not None or chosen.weights is not None,
        secret=secret,
        token=chosen.token,
        show_addresses=chosen.show_addresses,
        wheel=chosen.wheel,
        certificate=certificate,
        insecure=chosen.insecure,
        proxy_cert=chosen.proxy_cert,
        transfer_bytes=chosen.transfer_bytes,
    )
    loop_factory = None if sys.platform == "win32" else make_event_loop  # Windows' own event loop has no selector
    with (
        contextlib.closing(log_limit),
        contextlib.closing(store_client),
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        return runner.run(_serve(chosen, settings, store_client, parent, log_limit))


async def _serve(
    chosen: Options, settings: Settings, store_client: StoreClient, parent: int, log_limit: LogFilter
) -> int:
    from swarm_collector.clock import Clock
    from swarm_collector.server import ListenError, Server
    from swarm_collector.state import SwarmState
    from swarm_storage.errors import StoreError

    ending = _Ending()
    ending.on_signals()  # before anything announces that this process can be stopped
    if chosen.exit_with_parent:
        ending.with_parent(parent)
    try:
        rng = random.Random(os.urandom(32))  # spreads retries and transfers; challenges have the system's own
        server = Server(SwarmState(settings, store_client, Clock(), rng))
    except StoreError as error:  # damage that only a full read finds
        raise Unusable(str(error)) from error
    _remove_ready(chosen.ready_file)  # of a collector that was killed: who waits for the file waits for this one
    try:
        host, port = await server.start(chosen.host, chosen.port)
    except ListenError as error:
        raise Unusable(str(error)) from error
    where = address_text(host, port)
    # before clients are told to connect
    _write_operator(chosen.state, host, port, settings, server.operator_requests.secret)
    print(f"listening on {where}", file=sys.stderr, flush=True)
    if chosen.ready_file is not None:
        _write_ready(chosen.ready_file, where)
    _notify_systemd("READY=1")
    if settings.certificate is not None:
        _log.info("members know this collector by %s", settings.certificate.fingerprint)
    if chosen.insecure:
        _log.warning("plain text from other machines is accepted (--insecure): anyone on the path can read it")
    if not settings.token and not is_loopback(host):
        _log.warning("anybody who reaches %s can join and watch; give a token in $%s", where, TOKEN_VARIABLE)
    summing_up = asyncio.ensure_future(log_limit.run())
    broken = asyncio.ensure_future(server.failed())
    asked = asyncio.ensure_future(ending.asked())
    await asyncio.wait([broken, asked], return_when=asyncio.FIRST_COMPLETED)
    _notify_systemd("STOPPING=1")
    _remove_ready(chosen.ready_file)
    _log.info("stopping: %s", ending.why or "an internal error")
    await server.stop()
    summing_up.cancel()
    asked.cancel()
    if broken.done():
        broken.result()  # raise its error
    broken.cancel()
    return ending.code


class _Ending:
    """Wait for a reason to end this process: a signal, or the end of its parent."""

    def __init__(self) -> None:
        self.why = ""
        self.code = DONE
        self._asked = asyncio.Event()
        self._watching: list[asyncio.Task[None]] = []

    def ask(self, why: str) -> None:
        self.why = self.why or why
        self._asked.set()

    async def asked(self) -> None:
        await self._asked.wait()

    def on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        self.code = INTERRUPTED if number is signal.SIGINT else DONE
        self.ask(f"asked by {number.name}")

    def with_parent(self, parent: int) -> None:
        """End when the parent ends: its pipe closes at once, and the parent process id changes in any case."""
        self._watching.append(asyncio.ensure_future(self._adopted(parent)))
        mode = os.fstat(0).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            asyncio.get_running_loop().add_reader(0, self._stdin)

    async def _adopted(self, parent: int) -> None:
        while os.getppid() == parent:  # noqa: ASYNC110 - no event says this
            await asyncio.sleep(PARENT_EVERY_S)
        self.ask("the parent has ended")

    def _stdin(self) -> None:
        if not os.read(0, 4096):
            asyncio.get_running_loop().remove_reader(0)
            self.ask("the parent has ended")


def set_up_logging() -> LogFilter:
    """Log one line an event to stderr, in UTC. Lines that strangers can cause are limited."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    limit = LogFilter()
    handler.addFilter(limit)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(capture=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # a bad request is the sender's fault, not news
    return limit


def _remove_ready(path: Path | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _write_ready(path: Path, where: str) -> None:
    """Write the file atomically, so that nobody reads half of it. Raises Unusable."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        draft.write_text(f"{where}\n")
        draft.replace(path)
    except OSError as error:
        raise Unusable(f"cannot write {path} ({error.strerror}); give --ready-file another path") from error


def _notify_systemd(state: str) -> None:
    """Notify systemd (sd_notify(3)) if the unit asks for it: dependants wait until connections are accepted."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.sendto(state.encode(), name)
    except OSError as error:
        _log.warning("systemd could not be notified of %s (%s)", state, error.strerror)


def _write_operator(folder: Path, host: str, port: int, settings: Settings, secret: str) -> None:
    """Write the file for swarmtop invite and members on this machine, readable by its owner alone."""
    pin = settings.certificate.fingerprint if settings.certificate is not None else ""
    operator = Operator(host=host, port=port, pin=pin, secret=secret)
    draft = folder / f"{OPERATOR_FILE}.{os.getpid()}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(operator))
        draft.replace(folder / OPERATOR_FILE)
    except OSError as error:
        _log.warning("swarmtop invite and members will not work: %s cannot be written (%s)", draft, error.strerror)
