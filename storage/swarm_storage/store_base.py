"""Declare what every store offers, whichever database it uses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import msgspec

from swarm_storage.errors import Closed, ReadOnly
from swarm_storage.history.recording import Reader
from swarm_storage.history.retention import RETAIN_NS
from swarm_storage.writer.backend import Backend
from swarm_storage.writer.tasks import Committed
from swarm_storage.writer.writer import Writer


class Passed(msgspec.Struct, frozen=True):
    """The latest check that read all of the file without finding damage."""

    at_ns: int
    began_ns: int


class Store(ABC):
    """`reader` may be used from any thread, at any time; `writer` once."""

    name: str  # in what people read; without a password
    reader: Reader
    _writer: Writer | None = None

    @property
    @abstractmethod
    def read_only(self) -> bool: ...

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Return bytes on the disk, by part."""

    def writer(
        self, *, on_commit: Callable[[Sequence[Committed]], None] | None = None, retain_ns: int | None = RETAIN_NS
    ) -> Writer:
        """Return the one writer of this process, running from now on. `retain_ns` None: nothing is ever removed.

        Raises ReadOnly, or Closed where there has been one."""
        if self.read_only:
            raise ReadOnly(f"{self.name} was opened for reading; open it without read_only")
        if self._writer is not None:
            raise Closed(f"{self.name} has had its writer; reopen the store")
        self._writer = Writer(self._backend(retain_ns), on_commit=on_commit)
        return self._writer

    @abstractmethod
    def _backend(self, retain_ns: int | None) -> Backend:
        """Return what the writer writes to."""

    @abstractmethod
    def close(self) -> None: ...

    @property
    def check_due(self) -> bool:
        """Return whether a step of the integrity check is due. From any thread."""
        return False

    @abstractmethod
    def check(self) -> None:
        """Run a step of the integrity check, some seconds at most; damage stops the writer.

        Raises StoreError if there is damage, or no check can be made."""

    @property
    def check_passed(self) -> Passed | None:
        """Return the latest check of the whole store; None: none yet, or the server does it."""
        return None

    def shared_url(self) -> str | None:
        """Return how several collectors reach this store; None: it serves one."""
        return None

    def secret(self, own: bytes) -> bytes:
        """Return the secret that members' keys are derived from: the collector's own, or that of a shared store."""
        return own
