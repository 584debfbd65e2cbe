"""`swarmtop invite`: print the line that a volunteer pastes to join a running collector, or list the invites made so
far."""

from __future__ import annotations

import argparse
import ipaddress
import re
import shlex
import socket
import sys
import time
from typing import Final

from swarm_protocol.addresses import DEFAULT_PORT, address_text
from swarm_protocol.messages import operator_messages
from swarm_protocol.text import safe
from swarm_protocol.trust.loopback import is_loopback
from swarm_protocol.units import NS_PER_S, iso_utc
from swarmtop.commands.common import one_frame
from swarmtop.errors import DONE, CommandError
from swarmtop.local import operator_client
from swarmtop.local.served_hashes import Served, served
from swarmtop.option_types import address, length_s
from swarmtop.parsed_options import LOOPBACK
from swarmtop.shared_options import add_token
from swarmtop.sources.live import LiveSource

EXAMPLE: Final = """
swarmtop invite                                    for one machine, valid for a day
swarmtop invite --for alice --valid 7d             with a note and a lifetime
swarmtop invite --no-torch                         for a machine without a GPU or with little disk space
swarmtop invite --connect swarm.example.org:9470   the collector as volunteers reach it
swarmtop invite --list
swarmtop invite --revoke 4f1c09ab
"""
CHECKED: Final = 32  # hex digits of the script's hash in the line: 128 bits, and a shorter line to paste
_INVITE_ID = re.compile(r"[0-9a-f]{8}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--connect",
        metavar="HOST:PORT",
        type=address,
        help="address at which volunteers reach the collector (default: this machine's)",
    )
    parser.add_argument("--for", dest="label", default="", metavar="WHOM", help="a note of who the invite is for")
    parser.add_argument(
        "--valid", type=length_s, default=86_400, metavar="TIME", help="lifetime: 2h, 1d, 4w (default 1d)"
    )
    parser.add_argument(
        "--no-torch",
        action="store_true",
        help="install without torch, which is large; layer times are then not measured",
    )
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--list", action="store_true", help="list the invites made so far")
    one.add_argument("--revoke", metavar="ID", help="revoke an invite")
    parser.add_argument("--state", metavar="DIR", help="the collector's state folder (default: the usual one)")
    add_token(parser)


def run(args: argparse.Namespace) -> int:
    if args.list:
        return _list(operator_client.need(args.state))
    if args.revoke is not None:
        return _revoke(operator_client.need(args.state), args.revoke)
    host, port = args.connect or (None, None)
    client = operator_client.find(args.state, port)
    if client is None and args.state is not None:
        operator_client.need(args.state)
    if client is None:
        return _with_token(host or LOOPBACK, port or DEFAULT_PORT, args)
    line, unserved = invite(client, host, label=args.label, valid_s=args.valid, port=port, torch=not args.no_torch)
    print(line)
    shown = host or client.operator.host
    remark = ""
    if is_loopback(client.operator.host):
        remark = "the collector listens on this machine alone; start it with --listen 0.0.0.0:9470 to let others in"
    elif shown in operator_client.EVERYWHERE:
        remark = reachable_address()[1]
    until = iso_utc(time.time_ns() + round(args.valid * NS_PER_S))[:16].replace("T", " at ")
    print(f"good for one machine, until {until} UTC{'; ' + remark if remark else ''}", file=sys.stderr)
    _tell_unserved(unserved)
    return DONE


def invite(
    client: operator_client.OperatorClient,
    host: str | None,
    *,
    label: str = "",
    valid_s: float = 86_400,
    port: int | None = None,
    torch: bool = True,
) -> tuple[str, str]:
    """A fresh line, and why it needs a package index (empty: it does not, the collector serves itself).

    `host`: as volunteers reach it; None: as this machine is reached. Raises CommandError.
    """
    made = client.ask(operator_messages.MakeInvite(label=label, valid_s=round(valid_s)))
    assert isinstance(made, operator_messages.Made)
    operator = client.operator
    if host is None:
        host = operator.host
        if host in operator_client.EVERYWHERE or is_loopback(host):
            host = reachable_address()[0]
    found = served(client.here, operator.port, operator.pin, tls=bool(operator.pin) and not is_loopback(client.here))
    return invite_line(host, port or operator.port, code=made.code, pin=operator.pin, found=found, torch=torch)


def invite_line(
    host: str,
    port: int,
    *,
    found: Served | str,
    token: str = "",
    code: str = "",
    pin: str = "",
    insecure: bool = False,
    torch: bool = True,
) -> tuple[str, str]:
    """One line to paste, and why it needs a package index for swarmtop itself, if it does.

    `found`: what the collector serves, or why nothing. What is fetched is checked by hashes in the line, so it does not
    matter that no authority vouches for the certificate. Secrets stand in the environment: arguments can be read by
    every user of that machine.
    """
    secret = f"SWARMTOP_INVITE={code} " if code else f"SWARMTOP_TOKEN={shlex.quote(token)} " if token else ""
    where = address_text(host, port)
    trust = f" --fingerprint {pin}" if pin else " --insecure" if insecure else ""
    if isinstance(found, str):
        extras = "[torch,quic]" if torch else "[quic]"
        return f"pip install 'swarmtop{extras}' && {secret}swarm-probe --join {where}{trust}", found
    scheme = "https" if pin else "http"
    flag = "" if torch else "--no-torch "
    return (
        f'{secret}sh -c \'cd "$(mktemp -d)" && c={scheme}://{where} && '
        "{ curl -kfsSO $c/join.sh || wget -q --no-check-certificate $c/join.sh; } && "
        f"{{ sha256sum join.sh || shasum -a 256 join.sh; }} 2>&- | grep -q ^{found.script_sha256[:CHECKED]} && "
        f"exec sh join.sh {flag}$c {found.wheel_sha256} --join {where}{trust}; "
        "echo there is no join.sh as this invite names it >&2; exit 1'"
    ), ""


def _tell_unserved(why: str) -> None:
    if why:
        print(
            f"the line takes swarmtop from a package index, since this collector serves none ({safe(why, 200)})",
            file=sys.stderr,
        )


def _with_token(host: str, port: int, args: argparse.Namespace) -> int:
    """Somebody else's collector, or one of another user: no invite can be made, so the shared token is passed on."""
    # an invitation to a collector that is not there, or with a wrong token, would be found out by the volunteers
    source = LiveSource(host, port, token=args.token, pin=args.fingerprint, insecure=args.insecure)
    swarm = one_frame(source)
    shown, remark = (host, "") if not is_loopback(host) else reachable_address()
    tls = bool(source.shown_pin)
    line, unserved = invite_line(
        shown,
        port,
        found=served(host, port, source.shown_pin, tls=tls),
        token=args.token,
        pin=source.shown_pin,
        insecure=not tls and not is_loopback(shown),
        torch=not args.no_torch,
    )
    print(line)
    members = f"{len(swarm)} {'member' if len(swarm) == 1 else 'members'} so far"
    print(
        f"{members}; this line contains no invite: only the collector's operator can create one, on its machine"
        f"{'; ' + remark if remark else ''}",
        file=sys.stderr,
    )
    _tell_unserved(unserved)
    return DONE


def _list(client: operator_client.OperatorClient) -> int:
    answer = client.ask(operator_messages.ListInvites())
    assert isinstance(answer, operator_messages.Invites)
    if not answer.rows:
        print("no invite was made yet; swarmtop invite makes one", file=sys.stderr)
    for row in answer.rows:
        until = iso_utc(row.expires_ns)[:16].replace("T", " ")
        print(f"{row.invite}  until {until}  {safe(row.state, 60):<24}  {safe(row.label, 60)}".rstrip())
    return DONE


def _revoke(client: operator_client.OperatorClient, invite_id: str) -> int:
    if not _INVITE_ID.fullmatch(invite_id):
        raise CommandError(f"{safe(invite_id, 40)} is not an invite; swarmtop invite --list shows them")
    answer = client.ask(operator_messages.RevokeInvite(invite=invite_id))
    assert isinstance(answer, operator_messages.Done)
    print(safe(answer.text))
    return DONE


def reachable_address() -> tuple[str, str]:
    """The address that this machine's traffic to the internet leaves from, and what the volunteer has to know of it.

    Connecting a UDP socket sends nothing: it asks the kernel which address it would use. 192.0.2.1 is reserved for
    documentation (RFC 5737).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
            host = str(asking.getsockname()[0])
        except OSError:
            host = _interface_address()
            if host == LOOPBACK:
                return LOOPBACK, "this machine has no route out, so nobody else can reach it"
    where = "inside your network only" if ipaddress.ip_address(host).is_private else "from anywhere"
    return host, f"{host} is reached {where}, if swarm-collector listens on it; else name the address with --connect"


def _interface_address() -> str:
    """Return the first address that others on the network may know, for a machine without a route to the internet."""
    import psutil  # late: only needed without a route

    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and not is_loopback(each.address):
                return str(each.address)
    return LOOPBACK
