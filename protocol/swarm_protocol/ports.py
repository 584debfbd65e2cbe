"""Define the default port of everything that listens, in a module of its own, so that `--help` loads no messages."""

from __future__ import annotations

from typing import Final

DEFAULT_PORT: Final = 9470
