"""`swarmtop serve`: serve the dashboard to a browser on this machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from swarm_protocol.addresses import address_text
from swarmtop.errors import DONE, CommandError
from swarmtop.option_types import whole
from swarmtop.parsed_options import load_model, open_source, workload
from swarmtop.shared_options import TOKEN_VARIABLE, Parser, add_question, add_source

if TYPE_CHECKING:
    from swarmtop.local.browser import BrowserServer

EXAMPLE: Final = """
swarmtop serve                                     this machine's swarm; prints the URL to open
swarmtop serve --connect 10.0.0.5:9470 --port 8080
swarmtop serve --db swarm.db
ssh -L 9480:127.0.0.1:9480 gpu-box swarmtop serve  from another machine, through ssh
"""
PORT: Final = 9480


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _own(parser)
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII only")
    add_source(parser)
    add_question(parser)


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=whole(0, 65_535), default=PORT, metavar="N", help=f"port on 127.0.0.1 ({PORT}; 0: any free port)"
    )


def run(args: argparse.Namespace) -> int:
    try:
        from swarmtop.local.browser import HOST, BrowserServer
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("textual_serve", "aiohttp_jinja2", "jinja2"):
            raise
        raise CommandError("the browser needs textual-serve: pip install 'swarmtop[serve]'") from error

    load_model(args.model)  # report errors here, not in each tab
    workload(args)
    with _source(args) as (words, title):
        # a dashboard for each tab; a token goes into the environment, as every user can read arguments
        command = shlex.join([sys.executable, "-m", "swarmtop", *words])
        return asyncio.run(_serve(BrowserServer(command, title), args.port, HOST))


@contextlib.contextmanager
def _source(args: argparse.Namespace) -> Iterator[tuple[list[str], str]]:
    """Return the arguments of each tab's dashboard, and what it shows; by default a collector that all tabs share."""
    words = dashboard_words(args.given)
    if args.token:
        os.environ[TOKEN_VARIABLE] = args.token
    if (args.swarm, args.db, args.connect) != (None, None, None):
        source = open_source(args)  # a file that cannot be opened
        asyncio.run(source.close())
        yield words, source.title
        return
    from swarmtop.local.embedded import home

    with home(args.token) as found:
        os.environ[TOKEN_VARIABLE] = found.token
        where = address_text(found.host, found.port)
        yield ["--connect", where, *words], where


def dashboard_words(given: Sequence[str]) -> list[str]:
    """Return the arguments of `serve` without its own ones, and without a token, which goes into the environment."""
    own = Parser("serve", "", "")
    _own(own)
    own.add_argument("--token")
    return own.parse_known_args(list(given))[1]


async def _serve(server: BrowserServer, port: int, host: str) -> int:
    try:
        runner = await server.listen(port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CommandError(f"cannot listen on {host}:{port} ({reason}); name a free port with --port") from error
    print(server.page_url, flush=True)
    print("open this address in a browser on this machine; Ctrl+C ends it", file=sys.stderr, flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    try:
        await ended.wait()
    finally:
        await runner.cleanup()
    return DONE
