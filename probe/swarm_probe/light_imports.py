"""Import the daemon's libraries without what they load for purposes that the daemon does not have. Import this first.

`websockets.version` loads importlib.metadata (with zipfile, email, shutil and compressors: 1.5 MB) to find its own
version in a checkout of its sources; a released version states it. msgspec takes typing_extensions (0.4 MB) where it
is installed, and the same names from `typing` otherwise.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

_METADATA = "importlib.metadata"
_EXTENSIONS = "typing_extensions"


@contextlib.contextmanager
def _in_place_of(name: str, module: ModuleType | None) -> Iterator[None]:
    """Let imports in the block find `module`, None: nothing, under this name; unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module  # type: ignore[assignment]  # None: as if not installed
    try:
        yield
    finally:
        del sys.modules[name]


with _in_place_of(_EXTENSIONS, None):
    import msgspec  # noqa: F401
with _in_place_of(_METADATA, ModuleType(_METADATA)), contextlib.suppress(AttributeError):  # not released: loaded later
    import websockets.version  # noqa: F401
