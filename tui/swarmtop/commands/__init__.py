"""Register the subcommands: `swarmtop --help`, dispatch and the documentation test all read this table.

Each is a module in this package with

    EXAMPLE: str                              shown by --help
    add_arguments(parser) -> None
    run(args: argparse.Namespace) -> int      exit code; raises CommandError, SourceError or PredictError

A module is imported only when its command is called, so that `--help` stays quick. Adding a command is one entry.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Command(NamedTuple):
    name: str
    module: str
    help: str  # one line


COMMANDS: Final[tuple[Command, ...]] = (
    Command("init", "swarmtop.commands.data.init", "create a swarm file from five questions, or from this machine"),
    Command("predict", "swarmtop.commands.planning.predict", "predict tokens per second of a placement you name"),
    Command(
        "plan", "swarmtop.commands.planning.plan", "find the best placement, with a proven bound on anything better"
    ),
    Command("explain", "swarmtop.commands.planning.explain", "explain why a run was slower or faster than predicted"),
    Command("calibrate", "swarmtop.commands.planning.calibrate", "fit predictions to runs you have observed"),
    Command(
        "watch",
        "swarmtop.commands.monitoring.watch",
        "measure a running engine and compare it with the prediction",
    ),
    Command("export", "swarmtop.commands.data.export", "export samples as CSV or Parquet"),
    Command(
        "report",
        "swarmtop.commands.monitoring.report",
        "write one HTML page to share: ranking, plan, round trips, events",
    ),
    Command("backup", "swarmtop.commands.data.backup", "copy a database consistently while it is being written"),
    Command("import", "swarmtop.commands.data.import_", "build a swarm file from what other tools have measured"),
    Command("check", "swarmtop.commands.monitoring.check", "evaluate rules once and exit 4 if any is broken, for cron"),
    Command(
        "alert", "swarmtop.commands.monitoring.alert", "evaluate rules continuously and notify by webhook or command"
    ),
    Command("invite", "swarmtop.commands.invite", "create an invite: the command a volunteer pastes"),
    Command("serve", "swarmtop.commands.serve", "serve the dashboard to a browser on this machine"),
    Command("members", "swarmtop.commands.members", "list, rename and revoke members"),
    Command("lab", "swarmtop.commands.lab", "run real probes on an emulated internet (Linux)"),
)
