"""Write the reference pages from the code. `make reference`; --check compares instead.

    docs/reference/commands.md     --help of every command
    docs/reference/engines.md      how each engine moves a token, with the source of every figure
    docs/reference/keys.md         the keys of every screen
    docs/reference/csv.md          the columns of every kind of sample

A test holds the files to the code. argparse lays its help out a little differently from one Python to the next, so they
are written (and held) with Python 3.11. Man pages and completions: `shell_files.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["COLUMNS"] = "100"  # before argparse looks
os.environ.pop("SWARMTOP_TOKEN", None)

from swarm_collector.options import options_parser
from swarm_predict.cost.engines import ENGINES
from swarm_probe.cli import probe_parser
from swarm_storage.csv_format import CSV_KINDS, header
from swarmtop import cli
from swarmtop.commands import COMMANDS
from swarmtop.dashboard.actions import ACTIONS, TITLES

ROOT = Path(__file__).parents[1]
MADE = "<!-- written by tools/reference.py -->"
WRITTEN_WITH = (3, 11)


def files() -> Iterator[tuple[str, str]]:
    """(path from the root, text) of every file."""
    yield "docs/reference/commands.md", commands_page()
    yield "docs/reference/engines.md", engines_page()
    yield "docs/reference/keys.md", keys_page()
    yield "docs/reference/csv.md", csv_page()


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield "swarmtop", cli.top_parser()
    for command in COMMANDS:
        yield f"swarmtop {command.name}", cli.command_parser(command)
    yield "swarm-probe", probe_parser()
    yield "swarm-collector", options_parser()


def commands_page() -> str:
    parts = ["# Commands", MADE, ""]
    for name, parser in parsers():
        parts += [f"## {name}", "", "```text", plain(parser.format_help()).rstrip(), "```", ""]
    return "\n".join(parts)


def engines_page() -> str:
    parts = [
        "# Engines: how a token travels", MADE, "",
        "What an engine sends and to whom decides its time per token. `--engine` of `predict` and `plan` takes these.",
        "", "| engine | pattern | a hop carries | the last stage sends | LM head |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for facts in ENGINES.values():
        each = {1: "one activation", 2: "hidden states and residual"}[facts.tensors]
        width = f", {8 * facts.activation_bytes} bit" if facts.activation_bytes else ""
        parts.append(f"| {facts.name} | {facts.pattern} | {each}{width} | {facts.result} | {facts.head} |")
    for facts in ENGINES.values():
        parts += ["", f"## {facts.name}", "", *(f"- {source}" for source in facts.sources)]
    return "\n".join(parts) + "\n"


def keys_page() -> str:
    parts = ["# Keys", MADE, "", 'Each can be given another in `config.toml`: `[keys]`, then `action = "key"`.', ""]
    for title, screen in [("Every screen", None), *((TITLES[name], name) for name in TITLES)]:
        own = [action for action in ACTIONS if (screen in action.screens if screen else not action.screens)]
        if own:
            parts += [f"## {title}", "", "| key | action | what it does |", "|---|---|---|"]
            parts += [f"| `{action.keys[0]}` | {action.name} | {action.help} |" for action in own]
            parts.append("")
    return "\n".join(parts)


def csv_page() -> str:
    parts = [
        "# CSV columns", MADE, "",
        "`swarmtop export --kind KIND`. Times are UTC ISO 8601 with microseconds; an empty cell was not measured. "
        "Columns may be added at the end; those that are there keep their names and order.", "",
        "| kind | columns |", "|---|---|",
    ]  # fmt: skip
    parts += [f"| {kind} | {', '.join(header(kind))} |" for kind in CSV_KINDS]
    return "\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Without this machine's folders: a reader has others."""
    return text.replace(str(Path.home()), "~")


def main() -> int:
    if sys.version_info[:2] != WRITTEN_WITH:
        print(f"these files are written with Python {'.'.join(map(str, WRITTEN_WITH))}", file=sys.stderr)
        return 2
    made = dict(files())
    if "--check" in sys.argv[1:]:
        old = [name for name, text in made.items() if not _is(ROOT / name, text)]
        print("".join(f"{name} is not as the code is; run make reference\n" for name in old), end="")
        return 1 if old else 0
    for name, text in made.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text("utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
