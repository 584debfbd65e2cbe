"""Run `swarmtop`: find the command, and turn every failure into one line and an exit code.

Every error ends here as one line on stderr and an exit code; an internal error leaves its traceback in the log. Nothing
heavy is imported before it is needed: the commands are modules of `commands`, Textual comes with the dashboard only.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, cast

from swarm_protocol import __version__, blas_threads
from swarmtop.commands import COMMANDS, Command
from swarmtop.errors import DONE, INTERNAL, INTERRUPTED, UNUSABLE, CommandError
from swarmtop.option_types import joined_times, listen_address
from swarmtop.shared_options import Parser, add_question, add_source
from swarmtop.sources.source import SourceError
from swarmtop.text.ascii_text import prepare

DESCRIPTION: Final = "Which machine holds your pooled-GPU swarm back, why, and how many tokens per second it can give."
EXAMPLE: Final = """
swarmtop                                  watch this machine, with its own collector and probe
swarmtop --listen 0.0.0.0:9470            the same, and let others join
swarmtop --connect 10.0.0.5:9470          watch a running swarm
swarmtop --db swarm.db --at -1h           open a recording, an hour before its end
swarmtop --once --swarm examples/garage.toml
"""
LOG_MAX_BYTES: Final = 1 << 20  # then the log is started again; one old one is kept


class CommandModule(Protocol):
    """The interface of each module named in the registry."""

    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Raises nothing."""
    blas_threads.use_one()
    words = joined_times(list(sys.argv[1:] if argv is None else argv))
    for stream in (sys.stdout, sys.stderr):
        prepare(stream)  # a terminal without ≥ gets >=, never a traceback
    return guarded(lambda: dispatch(words))


def guarded(work: Callable[[], int]) -> int:
    """Run `work`, mapping every failure to a line and an exit code."""
    try:
        try:
            code = work()
        except SystemExit as end:  # argparse: after --help, or a complaint of its own
            code = end.code if isinstance(end.code, int) else DONE
        sys.stdout.flush()  # a reader that has closed the pipe is noticed here, not after main
    except (CommandError, SourceError) as error:
        return complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `swarmtop … | head` is done when head is; what is still buffered has no reader
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:  # noqa: BLE001 the last resort: one line on stderr, the traceback in the log
        return _predict_error(error) or complain(crash_line(error), INTERNAL)
    return code


def complain(text: str, exit_code: int) -> int:
    with contextlib.suppress(BrokenPipeError):
        print(f"swarmtop: {text}", file=sys.stderr, flush=True)
    return exit_code


def dispatch(words: list[str]) -> int:
    command = next((c for c in COMMANDS if words and c.name == words[0]), None)
    if command is not None:
        args = command_parser(command).parse_args(words[1:])
        args.given = words[1:]  # as written, for a command that passes them on
        return _module(command).run(args)
    if words and not words[0].startswith("-"):
        raise CommandError(_unknown_command(words[0]))
    return _top(words)


def command_parser(command: Command) -> Parser:
    """Return the parser of `swarmtop NAME`; its `--help`, the reference and the completions are all made from this."""
    module = _module(command)
    parser = Parser(f"swarmtop {command.name}", _sentence(command.help), module.EXAMPLE)
    module.add_arguments(parser)
    return parser


def _module(command: Command) -> CommandModule:
    return cast("CommandModule", importlib.import_module(command.module))


def _unknown_command(word: str) -> str:
    near = difflib.get_close_matches(word, [c.name for c in COMMANDS], 1)
    names = ", ".join(c.name for c in COMMANDS)
    return f"there is no command {word[:40]!r}; " + (f"did you mean {near[0]}?" if near else f"there are {names}")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


# ---------------------------------------------------------------- without a subcommand


def top_parser() -> Parser:
    lines = "\n".join(f"  {c.name:<9} {c.help}" for c in COMMANDS)
    parser = Parser("swarmtop", f"{DESCRIPTION}\n\ncommands (each has --help):\n{lines}", EXAMPLE)
    parser.usage = "swarmtop [OPTIONS] | swarmtop COMMAND [OPTIONS]"
    parser.add_argument("--version", action="version", version=f"swarmtop {__version__}")
    parser.add_argument("--once", action="store_true", help="print the ranking once, as a table, and exit")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="with --once: one JSON object")
    form.add_argument("--csv", action="store_true", help="with --once: CSV")
    parser.add_argument(
        "--stream", action="store_true", help="with --once: print again at each change, until interrupted"
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        type=listen_address,
        help="run the collector on this address, so that others can join",
    )
    parser.add_argument(
        "--ascii",
        action="store_true",
        help="draw the dashboard in ASCII only (default: where the terminal requires it)",
    )
    add_source(parser)
    add_question(parser)
    return parser


def _top(words: list[str]) -> int:
    parser = top_parser()
    args = parser.parse_args(words)
    if args.once:
        from swarmtop.commands.monitoring import once

        return once.run(args)
    for option in ("json", "csv", "stream"):
        if getattr(args, option):
            parser.error(f"--{option} goes with --once")
    gc.disable()  # what is imported stays: looking through it again and again costs a twentieth of the start
    from swarmtop.commands import dashboard

    return dashboard.run(args)


# ---------------------------------------------------------------- errors


def _predict_error(error: Exception) -> int | None:
    """Return the exit code of a question without an answer, printed to stderr; None for other errors."""
    from swarm_predict.errors import DoesNotFit, PredictError
    from swarmtop.errors import BREACHED

    if isinstance(error, PredictError):
        return complain(str(error), BREACHED if isinstance(error, DoesNotFit) else UNUSABLE)
    return None


def crash_line(error: BaseException) -> str:
    """Write the traceback into the log of the state folder; return the line that says where it is."""
    import datetime as dt
    import traceback

    from swarm_protocol.trust.identity import default_state_dir

    what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    path = default_state_dir() / "swarmtop.log"
    story = "".join(traceback.format_exception(error))
    head = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ} swarmtop {__version__}, Python {sys.version.split()[0]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _rotate(path)
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{head}\n{story}\n")
    except OSError as problem:
        sys.stderr.write(story)
        return f"internal error ({what}); no log could be written to {path} ({problem.strerror}), so it stands above"
    return f"internal error ({what}); please report it with {path}"


def _rotate(path: Path) -> None:
    if path.exists() and path.stat().st_size > LOG_MAX_BYTES:
        path.replace(path.with_suffix(".log.1"))
