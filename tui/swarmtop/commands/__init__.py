"""The registry of subcommands: `swarmtop --help`, dispatch and the documentation test all read this table.

Each is a module in this package with

    EXAMPLE: str                              shown by --help
    add_arguments(parser) -> None
    run(args: argparse.Namespace) -> int      exit code; raises CommandError, SourceError or PredictError

A module is imported only when its command is called, so that `--help` stays quick. Adding a command is one entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    module: str
    help: str  # one line


COMMANDS: Final[tuple[Command, ...]] = (
    Command("init", "swarmtop.commands.init", "a first swarm file, from five questions or from this machine"),
    Command("predict", "swarmtop.commands.predict", "tokens per second of a placement you name"),
    Command("plan", "swarmtop.commands.plan", "the best placement found, with a proven bound"),
    Command("calibrate", "swarmtop.commands.calibrate", "an engine's constants, fitted to runs you observed"),
    Command(
        "watch",
        "swarmtop.commands.watch",
        "a running engine: its first token, tokens per second, beside the prediction",
    ),
    Command("export", "swarmtop.commands.export", "samples as CSV"),
    Command("report", "swarmtop.commands.report", "one page to share: ranking, plan, matrix, what happened"),
    Command("backup", "swarmtop.commands.backup", "a consistent copy of a recording that is being written"),
    Command("import", "swarmtop.commands.import_", "a swarm file from what other tools have measured"),
    Command("check", "swarmtop.commands.check", "hold the swarm against rules, for cron"),
    Command("alert", "swarmtop.commands.alert", "call somebody when a rule stays broken: webhook, command"),
    Command("invite", "swarmtop.commands.invite", "the line a volunteer pastes"),
    Command("serve", "swarmtop.commands.serve", "the dashboard in a browser on this machine"),
    Command("members", "swarmtop.commands.members", "who is a member; rename them, revoke a membership"),
    Command("lab", "swarmtop.commands.lab", "a swarm of real probes on an emulated internet (Linux)"),
)
