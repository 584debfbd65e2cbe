"""`swarmtop invite`: the line that a volunteer pastes to join a running collector."""

from __future__ import annotations

import argparse
import ipaddress
import shlex
import socket
import sys
from typing import Final

from swarm_protocol.ports import DEFAULT_PORT
from swarmtop.args import add_token, address, address_text
from swarmtop.commands.common import one_frame
from swarmtop.config import LOOPBACK
from swarmtop.errors import DONE
from swarmtop.sources.live import LiveSource

EXAMPLE: Final = """
swarmtop invite                                    of the collector on this machine
swarmtop invite --connect swarm.example.org:9470 --token s3cret
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--connect",
        metavar="HOST:PORT",
        type=address,
        help="the collector as volunteers reach it (default: this machine)",
    )
    add_token(parser)


def run(args: argparse.Namespace) -> int:
    host, port = args.connect or (LOOPBACK, DEFAULT_PORT)
    # an invitation to a collector that is not there, or with a wrong token, would be found out by the volunteers
    swarm = one_frame(LiveSource(host, port, token=args.token))
    shown, remark = (host, "") if not is_loopback(host) else reachable_address()
    print(invite_line(shown, port, args.token))
    members = f"{len(swarm)} {'member' if len(swarm) == 1 else 'members'} so far"
    print(f"{members}{'; ' + remark if remark else ''}", file=sys.stderr)
    return DONE


def invite_line(host: str, port: int, token: str = "") -> str:
    join = f"pip install swarmtop && swarm-probe --join {address_text(host, port)}"
    return f"{join} --token {shlex.quote(token)}" if token else join


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reachable_address() -> tuple[str, str]:
    """The address that this machine's traffic to the internet leaves from, and what the volunteer has to know of it.

    Connecting a UDP socket sends nothing: it asks the kernel which address it would use. 192.0.2.1 is nobody's
    (RFC 5737).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
            host = str(asking.getsockname()[0])
        except OSError:
            return LOOPBACK, "this machine has no route out, so nobody else can reach it"
    where = "inside your network only" if ipaddress.ip_address(host).is_private else "from anywhere"
    return host, f"{host} is reached {where}, if swarm-collector listens on it; else name the address with --connect"
