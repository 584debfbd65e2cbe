"""Read and write the files named on the command line; a failure is a CommandError that says which option to correct."""

from __future__ import annotations

import os
from pathlib import Path

from swarm_protocol.text import safe
from swarmtop.errors import CommandError


def read_named(path: Path, option: str = "") -> bytes:
    """Return the content. `option`: which one named the file. Raises CommandError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {safe(str(path))} ({error.strerror}){_correct(option)}") from error


def write_whole(path: Path, data: bytes, option: str = "") -> None:
    """Write the file whole or not at all: under another name first, then renamed. Raises CommandError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise CommandError(f"cannot write {safe(str(path))} ({error.strerror}){_correct(option)}") from error


def _correct(option: str) -> str:
    return f"; correct {option}" if option else ""
