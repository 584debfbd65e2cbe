"""What every store offers, whichever database is behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarm_storage.errors import Closed, ReadOnly
from swarm_storage.history.recording import Reader
from swarm_storage.history.retention import RETAIN_NS
from swarm_storage.writer.tasks import Committed
from swarm_storage.writer.writer import Writer


@dataclass(frozen=True, slots=True)
class Passed:
    """The latest check that read all of the file without finding damage."""

    at_ns: int
    began_ns: int


class Store(ABC):
    """`reader` may be used from any thread, at any time; `writer` once."""

    name: str  # in what people read; without a password
    reader: Reader

    @property
    @abstractmethod
    def read_only(self) -> bool: ...

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Bytes on the disk, by part."""

    @abstractmethod
    def writer(
        self, *, on_commit: Callable[[Sequence[Committed]], None] | None = None, retain_ns: int | None = RETAIN_NS
    ) -> Writer:
        """The one writer of this process, running from now on. `retain_ns` None: nothing is ever removed.

        Raises ReadOnly, or Closed where there has been one."""

    @abstractmethod
    def close(self) -> None: ...

    @property
    def check_due(self) -> bool:
        """Whether it is time for a step of the integrity check. From any thread."""
        return False

    @abstractmethod
    def check(self) -> None:
        """A step of the integrity check, some seconds at most; damage stops the writer.

        Raises StoreError where there is damage, or no check can be made."""

    @property
    def check_passed(self) -> Passed | None:
        """The latest check of all of the store; None: none yet, or that is the server's business."""
        return None

    def shared_url(self) -> str | None:
        """How several collectors reach this store; None: it is for one."""
        return None

    def secret(self, own: bytes) -> bytes:
        """What a collector derives its members' keys from: its own, or what all collectors of a shared store use."""
        return own

    def _require_first_writer(self, before: Writer | None) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.name} was opened for reading; open it without read_only")
        if before is not None:
            raise Closed(f"{self.name} has had its writer; open the store anew")
