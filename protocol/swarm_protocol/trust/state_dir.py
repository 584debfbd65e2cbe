"""Find the folder in which swarmtop keeps what outlives a run: keys, pins, logs."""

from __future__ import annotations

import os
from pathlib import Path


def default_state_dir() -> Path:
    """Return `$SWARMTOP_HOME`, else `$XDG_STATE_HOME/swarmtop`, else `~/.local/state/swarmtop`."""
    if home := os.environ.get("SWARMTOP_HOME"):
        return Path(home)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "swarmtop"
