"""`swarmtop init`: create a swarm file from five questions, or from this machine."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from swarm_protocol.text import safe
from swarmtop.errors import DONE, CommandError

if TYPE_CHECKING:
    from swarm_protocol.swarm_files.named_nodes import NamedNode
    from swarmtop.local import swarm_file_wizard

EXAMPLE: Final = """
swarmtop init                             five questions, then swarm.toml
swarmtop init home.toml --detect          this machine: its cards, their memory
swarmtop init --nodes '4090@Utrecht fiber, m2-max-64@Berlin cable'
"""
TRIES: Final = 5  # for one question; then somebody is typing into the wrong window
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", default="swarm.toml", metavar="FILE.toml", help="file to write (swarm.toml)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--detect", action="store_true", help="no questions: describe this machine (the default without a terminal)"
    )
    how.add_argument("--nodes", metavar="'4090@Utrecht fiber, …'", help="no questions: these machines, by name")
    parser.add_argument("--model", metavar="NAME", help="model the swarm is to run (llama-3.1-8b)")


def run(args: argparse.Namespace) -> int:
    from swarm_protocol.swarm_files.swarm_file import SwarmFileError, parse_swarm
    from swarmtop.local import swarm_file_wizard

    path = Path(args.file)
    if path.exists():
        raise CommandError(f"{safe(str(path))} exists already; name another file")
    model = args.model or swarm_file_wizard.DEFAULT_MODEL
    if args.nodes is not None:
        try:
            nodes = swarm_file_wizard.machines(args.nodes)
        except swarm_file_wizard.BadAnswer as error:
            raise CommandError(f"--nodes: {safe(str(error), 400)}") from error
        text = swarm_file_wizard.written(swarm_file_wizard.Answers(nodes, model), args.file)
    elif args.detect or not sys.stdin.isatty():
        from swarmtop.local.detect_machine import detect

        found = detect()
        print(safe(found.said, 300), file=sys.stderr)
        text = swarm_file_wizard.written_detected(found.node, args.file, model)
    else:
        answers = ask_questions(args.model, input)
        text, model = swarm_file_wizard.written(answers, args.file), answers.model
    try:
        parse_swarm(text)
    except SwarmFileError as error:
        raise CommandError(f"the resulting file cannot be used ({error}); please report this") from error
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {safe(str(path))} ({error.strerror})") from error
    shown = safe(str(path))
    print(f"{shown} is written; next: swarmtop plan --swarm {shown} --model {safe(model)}", file=sys.stderr)
    return DONE


def ask_questions(model: str | None, ask: Callable[[str], str]) -> swarm_file_wizard.Answers:
    """The five questions. `ask` shows a line and gives the answer."""
    from swarmtop.local import swarm_file_wizard
    from swarmtop.parsed_options import load_model

    nodes = _ask(
        ask, "1/5  Which machines? (4090, 2x3060, m2-max-64, name=RTX 3090 + A4000)\n> ", swarm_file_wizard.machines
    )
    count, names = len(nodes), tuple(node.name for node in nodes)
    cities = lines = None
    kinds = "fiber, cable, dsl, 5g, starlink, lan, thunderbolt"
    if any(node.city is None for node in nodes):
        cities = _ask(ask, f"2/5  In which cities? ({count}, with commas, or one for all; empty: not said)\n> ",
                      lambda text: swarm_file_wizard.cities(text, count))  # fmt: skip
    if any(not _has_line(node) for node in nodes):
        lines = _ask(ask, f"3/5  On which lines? ({kinds}, or DOWN/UP as in 250/40; empty: cable)\n> ",
                     lambda text: swarm_file_wizard.lines(text, count))  # fmt: skip

    def checked(text: str) -> str:
        return load_model(text.strip() or model or swarm_file_wizard.DEFAULT_MODEL).name

    wanted = _ask(ask, f"4/5  Which model? ({model or swarm_file_wizard.DEFAULT_MODEL})\n> ", checked)
    client = _ask(ask, f"5/5  Which is the client? (one of {', '.join(names[:6])}; empty: the first stage's)\n> ",
                  lambda text: swarm_file_wizard.client(text, names))  # fmt: skip
    filled = []
    for i, node in enumerate(nodes):
        line = lines[i] if lines and not _has_line(node) else None
        node = dataclasses.replace(node, city=node.city or (cities[i] if cities else None))
        filled.append(dataclasses.replace(node, **dataclasses.asdict(line)) if line else node)
    return swarm_file_wizard.Answers(tuple(filled), wanted, client)


def _has_line(node: NamedNode) -> bool:
    return node.access is not None or node.up_mbps is not None


def _ask(ask: Callable[[str], str], question: str, check: Callable[[str], T]) -> T:
    """The first answer that `check` takes."""
    for _ in range(TRIES):
        try:
            answer = ask(question)
        except EOFError:
            raise CommandError("the questions were not answered; swarmtop init --detect asks none") from None
        try:
            return check(answer)
        except (ValueError, CommandError) as error:
            print(f"     {safe(str(error), 400)}", file=sys.stderr)
    raise CommandError(f"no usable answer in {TRIES} tries; swarmtop init --nodes takes them at once")
