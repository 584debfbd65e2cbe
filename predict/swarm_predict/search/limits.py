"""Define up to which size a swarm is solved exactly. Light to import."""

from __future__ import annotations

from typing import Final

EXACT_NODES: Final = 18  # of any swarm: within the time that a person waits; more need the compiled loops
