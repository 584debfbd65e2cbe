"""Find what this user's collector on this machine has left for its operator: who may read that file needs no token."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from swarm_protocol.messages.operator_messages import OPERATOR_FILE, Operator, read_operator
from swarm_protocol.trust.identity import default_state_dir

STATE_VARIABLE: Final = "SWARM_COLLECTOR_STATE"


def folders(given: str | None) -> list[Path]:
    """Return the folders in which a collector of this user may keep its state, the likeliest first."""
    if given is not None:
        return [Path(given)]
    named = os.environ.get(STATE_VARIABLE)
    default = default_state_dir()
    return ([Path(named)] if named else []) + [default, default / "local"]


def operator_on(port: int) -> Operator | None:
    """Return the file of the collector that this user has started on this port last; None: it is another's.

    Its secret goes to that collector alone: `LiveSource` makes sure of that.
    """
    found = [
        ((folder / OPERATOR_FILE).stat().st_mtime_ns, operator)
        for folder in folders(None)
        if (operator := read_operator(folder)) is not None and operator.port == port
    ]
    return max(found, key=lambda each: each[0])[1] if found else None
