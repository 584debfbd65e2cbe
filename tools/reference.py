"""Write the reference pages from the code. `make reference`; --check compares instead.

    docs/reference/commands.md     --help of every command
    docs/reference/engines.md      how each engine moves a token, with the source of every figure
    docs/reference/keys.md         the keys of every screen
    docs/reference/csv.md          the columns of every kind of sample
    README.md                      what its example of `swarmtop plan` prints, down to the table of stages

A test compares the files with the code. argparse formats its help differently from one Python to the next, so they are
written (and tested) with Python 3.11. Man pages and completions: `shell_files.py`.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["COLUMNS"] = "100"  # before argparse looks
os.environ.pop("SWARMTOP_TOKEN", None)

from swarm_collector.options import options_parser
from swarm_predict.cost.all_reduce import messages as all_reduce_messages
from swarm_predict.cost.engines import ENGINES, EngineFacts
from swarm_predict.cost.machine_groups import ALL_REDUCES_PER_LAYER
from swarm_predict.forecast.forward_pass.pipeline import trips_of
from swarm_predict.model.catalogue import model_named
from swarm_predict.model.shapes import ModelShape
from swarm_probe.arguments import probe_parser
from swarm_storage.csv_format import CSV_KINDS, header
from swarmtop import cli
from swarmtop.commands import COMMANDS
from swarmtop.dashboard.keymap import ACTIONS, TITLES

ROOT = Path(__file__).parents[1]
MADE = "<!-- written by tools/reference.py -->"
WRITTEN_WITH = (3, 11)
EXAMPLE = re.compile(r"(```sh\n(swarmtop plan --nodes [^\n]*)\n```\n\n```\n).*?(```\n)", re.DOTALL)


def files() -> Iterator[tuple[str, str]]:
    """Return (path from the root, text) of every file."""
    yield "docs/reference/commands.md", commands_page()
    yield "docs/reference/engines.md", engines_page()
    yield "docs/reference/keys.md", keys_page()
    yield "docs/reference/csv.md", csv_page()
    yield "README.md", EXAMPLE.sub(with_output, (ROOT / "README.md").read_text("utf-8"))


def with_output(example: re.Match[str]) -> str:
    """Return a command of a page, followed by what it prints first."""
    words = [
        sys.executable,
        "-c",
        "from swarmtop.cli import main; raise SystemExit(main())",
        *shlex.split(example[2])[1:],
    ]
    printed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    speeds, stages = printed.split("\nSTAGE", 1)
    return f"{example[1]}{speeds}\nSTAGE{stages.split(chr(10) * 2, 1)[0]}\n{example[3]}"


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
    model = model_named("llama-3.1-8b")
    parts = [
        "# Engines: how a token travels", MADE, "",
        "What an engine sends and to whom decides its time per token. `--engine` of `predict` and `plan` takes these. "
        "Bytes and messages are of one token of Llama 3.1 8B at fp16 over four machines, of which none is the client: "
        "what is sent in all, and how many messages wait for each other.", "",
        "| engine | pattern | a hop carries | the last stage sends | LM head | messages | KB | windows in flight |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for facts in ENGINES.values():
        width = f", {8 * facts.activation_bytes:g} bit" if facts.activation_bytes else ""
        each = "partial sums" if facts.pattern == "all-reduce" else "one activation"
        if facts.tensors == 2 and facts.pattern != "all-reduce":
            each = "hidden states and residual"
        pattern = f"all-reduce ({facts.all_reduce})" if facts.pattern == "all-reduce" else facts.pattern
        messages, size = traffic(facts, model, 4)
        parts.append(
            f"| {facts.name} | {pattern} | {each}{width} | {facts.result} | {facts.head} | {messages} | "
            f"{size / 1e3:.0f} | {'yes' if facts.windows else 'no'} |"
        )
    parts += ["", "Machines that share a layer, and what else restricts a placement:", ""]
    parts += [
        "| engine | machines of a group | attention heads | groups as a pipeline | shares | otherwise |",
        "|" + "---|" * 6,
    ]
    for facts in ENGINES.values():
        shared = facts.pattern == "all-reduce"
        if shared or facts.limits:
            shares = "any" if facts.uneven else "equal"
            groups = ("of equal size" if facts.equal_groups else "yes") if facts.groups else "no"
            parts.append(
                f"| {facts.name} | {facts.counts if shared else '1'} | {facts.heads if shared else '–'} | "
                f"{groups if shared else '–'} | {shares if shared else '–'} | {facts.limits} |"
            )
    for facts in ENGINES.values():
        parts += ["", f"## {facts.name}", "", *(f"- {source}" for source in facts.sources)]
    return "\n".join(parts) + "\n"


def traffic(facts: EngineFacts, model: ModelShape, machines: int) -> tuple[int, float]:
    """Return (sequential messages of one token, bytes that all machines send)."""
    if facts.pattern == "all-reduce":
        size = facts.reduce_bytes(model, 1, "fp16")
        rounds = all_reduce_messages(facts.all_reduce, machines, size)
        sent = sum(bytes_ for here in rounds for _, _, bytes_ in here)
        if facts.all_reduce == "mesh":  # there a message is priced with all that leaves on its uplink
            sent /= machines - 1
        times = ALL_REDUCES_PER_LAYER * model.layers
        ends = 2 if facts.result == "logits" else 0
        more = (size * (machines - 1) + model.vocab * 4 * (machines - 1) / machines) if ends else 0.0
        return times * len(rounds) + ends, times * sent + more
    sizes = [size(model, 1, "fp16") for size in (facts.hop_bytes, facts.enter_bytes, facts.result_bytes)]
    trips = trips_of(facts, machines, machines if facts.client_in_loop else None, *sizes)
    return len(trips), sum(trip.size_bytes for trip in trips)


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
    """Remove this machine's folders from the text."""
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
