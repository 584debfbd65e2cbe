"""`swarmtop report`: write one page about the swarm, to send to others."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

from swarm_protocol.text import safe
from swarmtop.errors import DONE
from swarmtop.file_arguments import write_whole
from swarmtop.parsed_options import open_question, open_source, question
from swarmtop.progress import progress
from swarmtop.shared_options import add_question, add_source
from swarmtop.text.ascii_text import holds_signs

EXAMPLE: Final = """
swarmtop report --db swarm.db --model llama-3.1-8b --html swarm.html
swarmtop report --connect 10.0.0.5:9470 --model llama-2-70b --engine petals --html - > swarm.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--html", required=True, metavar="FILE|-", help="where to write the page; it needs neither network nor scripts"
    )
    add_source(parser)
    add_question(parser)


def run(args: argparse.Namespace) -> int:
    from swarmtop.report.gather import Report, gather
    from swarmtop.report.html import rendered

    open_question(args)  # report an invalid question before anybody waits
    source = open_source(args)

    async def work() -> Report:
        try:
            return await gather(source, lambda swarm: question(args, swarm))
        finally:
            await source.close()

    with progress(f"reporting on {source.title}"):
        page = rendered(asyncio.run(work()))
    if args.html == "-":
        # a character reference reads in every encoding
        sys.stdout.write(page if holds_signs(sys.stdout) else page.encode("ascii", "xmlcharrefreplace").decode())
        return DONE
    path = Path(args.html)
    write_whole(path, page.encode(), "--html")
    print(f"{safe(str(path))}: {len(page) >> 10} KiB, opens in any browser", file=sys.stderr)
    return DONE
