"""Write man pages and shell completions, made from the parsers of all commands, into the folder named.

    python tools/shell_files.py FOLDER

    FOLDER/man/man1/*.1
    FOLDER/bash-completion/completions/swarmtop
    FOLDER/zsh/site-functions/_swarmtop

The layout is that of `share/` in an installation prefix. `hatch_build.py` runs this when a wheel is built.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage
from reference import parsers, plain

from swarm_protocol import __version__
from swarmtop import cli
from swarmtop.commands import COMMANDS


def files() -> Iterator[tuple[str, str]]:
    """Return (path below `share/`, text) of every file."""
    for name, parser in parsers():
        yield f"man/man1/{name.replace(' ', '-')}.1", man_page(parser)
    whole = whole_parser()
    yield "bash-completion/completions/swarmtop", plain(shtab.complete(whole, "bash"))
    yield "zsh/site-functions/_swarmtop", plain(shtab.complete(whole, "zsh"))


def whole_parser() -> argparse.ArgumentParser:
    """Return `swarmtop` with its commands as subparsers, for completions; the program itself imports one at a time."""
    parser = cli.top_parser()
    parser.usage = None
    commands = parser.add_subparsers(parser_class=argparse.ArgumentParser)
    for command in COMMANDS:
        own = cli.command_parser(command)
        own.add_help = False
        commands.add_parser(command.name, help=command.help, parents=[_without_help(own)])
    return parser


def _without_help(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser._handle_conflict_resolve(None, [("-h", parser._option_string_actions["-h"])])  # type: ignore[arg-type]
    parser._handle_conflict_resolve(None, [("--help", parser._option_string_actions["--help"])])  # type: ignore[arg-type]
    return parser


def man_page(parser: argparse.ArgumentParser) -> str:
    parser.man_short_description = (parser.description or "").strip().splitlines()[0]  # type: ignore[attr-defined]
    page = str(Manpage(parser, format="pretty"))
    page = re.sub(
        r"^\.TH .*$", f'.TH "{parser.prog.upper()}" "1" "" "swarmtop {__version__}"', page, count=1, flags=re.M
    )
    return plain(page).rstrip() + "\n"


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python tools/shell_files.py FOLDER", file=sys.stderr)
        return 2
    for name, text in files():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
