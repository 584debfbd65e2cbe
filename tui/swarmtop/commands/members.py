"""`swarmtop members`: list members and their invites, rename members, and end memberships."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

from swarm_protocol.messages import operator_messages
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S
from swarmtop.errors import DONE
from swarmtop.local import operator_client

EXAMPLE: Final = """
swarmtop members                                   list everybody who has ever joined
swarmtop members --rename node-7=attic-3090
swarmtop members --revoke attic-3090               ends its membership at once; it cannot come back with its key
swarmtop members --readmit attic-3090
"""
_HEAD: Final = ("name", "node", "state", "address", "heard", "came by", "")
_AGO: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--rename", metavar="MEMBER=NAME", help="rename a member")
    one.add_argument("--revoke", metavar="MEMBER", help="end a membership (by name or node id)")
    one.add_argument("--readmit", metavar="MEMBER", help="let a revoked member join again")
    parser.add_argument("--state", metavar="DIR", help="the collector's state folder (default: the usual one)")


def run(args: argparse.Namespace) -> int:
    client = operator_client.need(args.state)
    request = _request(args)
    answer = client.ask(request)
    if isinstance(answer, operator_messages.Members):
        for line in table(answer.rows, time.time_ns()):
            print(line)
        pin = (
            f", known to members by {client.operator.pin}"
            if client.operator.pin
            else ", plain text on this machine only"
        )
        print(f"{len(answer.rows)} of the collector on port {client.operator.port}{pin}", file=sys.stderr)
        for row in answer.rows:
            for doubt in row.doubts:
                print(f"{safe(row.name)}: {safe(doubt)}", file=sys.stderr)
    elif isinstance(answer, operator_messages.Done):
        print(safe(answer.text))
    return DONE


def _request(args: argparse.Namespace) -> operator_messages.Request:
    if args.rename is not None:
        member, _, name = args.rename.partition("=")
        return operator_messages.Rename(member=member[:300], name=name[:300])
    if args.revoke is not None:
        return operator_messages.Revoke(member=args.revoke[:300])
    if args.readmit is not None:
        return operator_messages.Revoke(member=args.readmit[:300], readmit=True)
    return operator_messages.ListMembers()


def table(rows: tuple[operator_messages.MemberRow, ...], now_ns: int) -> list[str]:
    cells = [_HEAD, *(_cells(row, now_ns) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(_HEAD))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cells(row: operator_messages.MemberRow, now_ns: int) -> tuple[str, ...]:
    label = f"for {safe(row.label, 40)}" if row.label else ""
    doubted = f"{len(row.doubts)} in doubt" if row.doubts else ""
    return (
        safe(row.name, 40),
        row.node_id,
        safe(row.state, 20),
        safe(row.address, 45) or "–",
        _ago(now_ns - row.heard_ns) if row.heard_ns else "–",
        safe(row.came_by, 40),
        ", ".join(filter(None, (label, doubted))),
    )


def _ago(ns: int) -> str:
    seconds = max(0, ns // NS_PER_S)
    size, unit = next(((size, unit) for size, unit in _AGO if seconds >= size), (1, "s"))
    return f"{seconds // size} {unit} ago"
