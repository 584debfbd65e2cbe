"""Use a swarm file as a source: one state, no history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.snapshot.swarm import Member, Swarm
from swarm_protocol.swarm_files.swarm_file import SwarmFileError, build, read
from swarm_protocol.text import safe
from swarmtop.sources.source import History, Mode, SourceError

MAX_BYTES: Final = 64 << 20  # every pair of 1,000 nodes spelled out


class SwarmFileSource:
    mode: Mode = "file"

    def __init__(self, path: Path) -> None:
        """Reads and checks the file at once. Raises SourceError if it is no swarm."""
        self.title = safe(path.name)
        shown = safe(str(path))
        try:
            if path.stat().st_size > MAX_BYTES:
                raise SourceError(f"{shown} has more than {MAX_BYTES >> 20} MiB; correct --swarm", 2)
            text = path.read_text("utf-8")
        except OSError as error:
            raise SourceError(f"cannot read {shown} ({error.strerror}); correct --swarm", 2) from error
        except UnicodeDecodeError as error:
            raise SourceError(f"{shown} is not text; --swarm takes a TOML file", 2) from error
        try:
            self._written = read(text)
        except SwarmFileError as error:
            raise SourceError(f"{shown}: {safe(str(error))}", 2) from error

    async def members(self) -> tuple[Member, ...]:
        return self._written.members()

    async def frames(self) -> AsyncIterator[Swarm]:
        yield build(self._written, self.title)

    async def history(
        self, metric: str, node_id: str, peer_id: str | None, since_ns: int, until_ns: int, points: int
    ) -> History:
        return History((), ())

    async def export(self, kind: str, since_ns: int, until_ns: int) -> AsyncIterator[str]:
        raise SourceError(f"{self.title} is written by hand and has no samples; export takes --db or --connect", 2)
        yield ""  # makes this a generator, as the contract wants

    async def focus(
        self, model: str, layer: LayerShape, dtype: str, hop_bytes: int, vocab: int = 0, *, chosen: bool = True
    ) -> None:
        """Nothing is measured for a file."""

    async def close(self) -> None:
        """Nothing is open."""


class NodesSource(SwarmFileSource):
    """Machines named on the command line."""

    def __init__(self, nodes: str) -> None:
        """Raises SourceError if a name is not known."""
        from swarm_protocol.swarm_files.named_nodes import BadNodes, swarm_of_nodes  # reads the table of devices

        self.title = "--nodes"
        try:
            self._swarm = swarm_of_nodes(nodes)
        except BadNodes as error:
            raise SourceError(f"--nodes: {safe(str(error), 400)}", 2) from error

    async def members(self) -> tuple[Member, ...]:
        return ()  # the line names devices and cities: all figures are estimates

    async def frames(self) -> AsyncIterator[Swarm]:
        yield self._swarm
