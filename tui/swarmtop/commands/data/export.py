"""`swarmtop export`: write recorded samples as CSV, one file for each kind, streamed whatever their number."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Final, cast

from swarm_protocol.text import safe
from swarm_protocol.units import iso_utc
from swarmtop.errors import DONE, CommandError
from swarmtop.option_types import at_ns, when
from swarmtop.parsed_options import open_source
from swarmtop.progress import progress
from swarmtop.shared_options import add_source
from swarmtop.sources.source import Source, Span, is_recording
from swarmtop.text.parquet import ParquetFile

EXAMPLE: Final = """
swarmtop export --db swarm.db --csv samples/                     one file per kind
swarmtop export --db swarm.db --kind link --since -1h --csv -    the last hour's round trips, to a pipe
swarmtop export --connect 10.0.0.5:9470 --kind compute --csv compute.csv
swarmtop export --db swarm.db --kind link --parquet link.parquet
swarmtop export --db swarm.db --kind link_hour --since -30d --csv -   medians of each hour, long after the samples
"""
KINDS: Final = ("link", "uplink", "compute", "host", "event", "hop", "roofline", "run")
# one row for each minute or hour, with n samples: kept long after the samples are gone
ROLLUPS: Final = tuple(f"{kind}_{unit}" for kind in ("link", "hop", "uplink", "host") for unit in ("minute", "hour"))
FOREVER_NS: Final = 2**62


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--csv", metavar="PATH|-", default=None, help="a file, a folder, or - (default: - with --kind, else a folder)"
    )
    parser.add_argument(
        "--kind", choices=(*KINDS, *ROLLUPS), metavar="KIND",
        help=f"{', '.join(KINDS)} (default: all of these); or of rollups: {', '.join(ROLLUPS)}",
    )  # fmt: skip
    parser.add_argument(
        "--parquet", metavar="PATH", default=None, help="a file of one kind, or a folder (needs the extra `parquet`)"
    )
    parser.add_argument("--since", type=when, metavar="TIME", help="2026-11-23T14:00 (UTC) or -1h (default: the start)")
    parser.add_argument("--until", type=when, metavar="TIME", help="the same (default: the end)")
    add_source(parser)


def run(args: argparse.Namespace) -> int:
    now_ns = time.time_ns()
    since_ns = at_ns(args.since, now_ns) if args.since else 0
    until_ns = at_ns(args.until, now_ns) if args.until else FOREVER_NS
    if since_ns > until_ns:
        raise CommandError(f"--since {args.since} is after --until {args.until}")
    if args.parquet is not None and args.csv is not None:
        raise CommandError("give --csv or --parquet, not both")
    if args.parquet == "-":
        raise CommandError("Parquet does not go through a pipe; give --parquet a file or a folder")
    ending = "csv" if args.parquet is None else "parquet"
    target = args.csv if args.parquet is None else args.parquet
    folder = _folder(target, args.kind, ending)
    source = open_source(args)

    async def work() -> None:
        try:
            if is_recording(source):
                _warn_if_outside(args, await source.span(), since_ns, until_ns)
            if folder is not None:
                for kind in (args.kind,) if args.kind else KINDS:
                    await _to_file(source, kind, since_ns, until_ns, folder / f"{kind}.{ending}", ending)
            elif target in (None, "-"):
                await _pour(source, args.kind, since_ns, until_ns, sys.stdout.write)
            else:
                await _to_file(source, args.kind, since_ns, until_ns, Path(target), ending)
        finally:
            await source.close()

    # rows that run over the screen are progress enough, and a line among them would spoil them
    to_screen = folder is None and target in (None, "-") and sys.stdout.isatty()
    with contextlib.nullcontext() if to_screen else progress(f"exporting from {source.title}"):
        asyncio.run(work())
    return DONE


def _warn_if_outside(args: argparse.Namespace, span: Span, since_ns: int, until_ns: int) -> None:
    """Say why an old recording has no rows of the last hour."""
    covered = f"{safe(Path(args.db).name)} covers {iso_utc(span.first_ns)[:19]}Z to {iso_utc(span.last_ns)[:19]}Z"
    if since_ns > span.last_ns:
        print(f"no rows: {covered}; --since {safe(args.since)} is later (-1h counts from now)", file=sys.stderr)
    elif until_ns < span.first_ns:
        print(f"no rows: {covered}; --until {safe(args.until)} is earlier", file=sys.stderr)


def _folder(target: str | None, kind: str | None, ending: str) -> Path | None:
    """Return the folder for several files; None if one kind goes to one place."""
    if target is not None and target != "-" and (target.endswith(os.sep) or Path(target).is_dir()):
        return Path(target)
    if kind is not None:
        return None
    if target is None:
        return Path(f"swarmtop-{ending}")
    if target == "-" or Path(target).suffix:
        raise CommandError(
            f"{'a pipe' if target == '-' else safe(target)} takes one kind: add --kind {'|'.join(KINDS)}, "
            f"or give a folder: --{ending} DIR/"
        )
    return Path(target)


async def _pour(source: Source, kind: str, since_ns: int, until_ns: int, write: Callable[[str], int]) -> int:
    """Return the number of lines written, header included."""
    lines = 0
    pieces = cast("AsyncGenerator[str, None]", source.export(kind, since_ns, until_ns))
    try:
        async for piece in pieces:
            write(piece)
            lines += piece.count("\n")
    finally:
        await pieces.aclose()
    return lines


async def _to_file(source: Source, kind: str, since_ns: int, until_ns: int, path: Path, ending: str) -> None:
    """Write the file whole or not at all: under another name first, then renamed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if ending == "parquet":
            table = ParquetFile(draft, kind)
            try:
                lines = await _pour(source, kind, since_ns, until_ns, table.write)
            finally:
                table.close()
        else:
            with draft.open("w", encoding="utf-8", newline="") as file:
                lines = await _pour(source, kind, since_ns, until_ns, file.write)
        draft.replace(path)
    except OSError as error:
        raise CommandError(
            f"cannot write {safe(str(path))} ({error.strerror or error}); give it another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the folder itself may be missing
            draft.unlink(missing_ok=True)
    print(f"{safe(str(path))}: {max(0, lines - 1)} rows", file=sys.stderr)
