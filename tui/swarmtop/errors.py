"""Define the errors that a command ends with; `cli` maps them to exit codes.

CommandError          one line for people, with its exit code
source.SourceError    the same, from a data source
WorkerEnded           a worker process was killed; the dashboard shows it and goes on
"""

from __future__ import annotations

from typing import Final

DONE: Final = 0
INTERNAL: Final = 1  # an internal error: traceback in the log
UNUSABLE: Final = 2  # arguments or a file
UNREACHABLE: Final = 3  # the collector
BREACHED: Final = 4  # a rule, or the placement does not fit
INTERRUPTED: Final = 130


class CommandError(Exception):
    """`text` is one line that says what, the value, and what to do."""

    def __init__(self, text: str, exit_code: int = UNUSABLE) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class WorkerEnded(RuntimeError):
    """The worker process was killed, or could not be started. One line that says how."""
