"""The one port that everything listens on unless told otherwise; without the messages, which `--help` need not load."""

from __future__ import annotations

from typing import Final

DEFAULT_PORT: Final = 9470
