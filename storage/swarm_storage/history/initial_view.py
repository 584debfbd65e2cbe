"""Choose how to open a recording: the model it was measured for, and moments at which machines were connected."""

from __future__ import annotations

from typing import Final

import msgspec

from swarm_protocol.messages.viewer_messages import FOCUS_SETTING, Focus
from swarm_protocol.units import NS_PER_S
from swarm_storage.history.recording import Reader

TOGETHER_NS: Final = 120 * NS_PER_S  # departures no further apart count as one end: a swarm that is shut down
LAST_NS: Final = 2**63 - 1


def measured_for(reader: Reader, at_ns: int) -> tuple[str, str] | None:
    """Return (model, weight format) that was measured up to that moment, or first after it; None: unknown.

    The format is the requested one; where that is not stored, the one that all layer times are in, and "" where they
    differ: a machine without half precision measures in another one.
    """
    focus = _focus(reader)
    newest = reader.query("SELECT model FROM compute_sample WHERE ts <= ? ORDER BY ts DESC LIMIT 1", (at_ns,))
    if not newest and focus is not None:
        return focus.model, focus.dtype
    if not newest:  # a collector that was told its model at its start stores no focus
        newest = reader.query("SELECT model FROM compute_sample ORDER BY ts LIMIT 1")
        at_ns = LAST_NS
    if not newest:
        return None
    model = str(newest[0][0])
    if focus is not None and focus.model == model:
        return model, focus.dtype
    formats = reader.query("SELECT DISTINCT dtype FROM compute_sample WHERE model = ? AND ts <= ?", (model, at_ns))
    return model, str(formats[0][0]) if len(formats) == 1 else ""


def _focus(reader: Reader) -> Focus | None:
    kept = reader.settings().get(FOCUS_SETTING)
    if kept is None:
        return None
    try:
        return msgspec.json.decode(kept, type=Focus)
    except msgspec.DecodeError:  # of a later collector, or tampered with
        return None


def before_departures(reader: Reader, at_ns: int) -> list[int]:
    """Return moments just before machines left or were lost, newest first; of several that left together, before the
    first."""
    rows = reader.query(
        "SELECT ts FROM event_sample WHERE kind IN ('left', 'lost') AND ts <= ? ORDER BY ts DESC", (at_ns,)
    )
    moments: list[int] = []
    for (ts,) in rows:
        if moments and moments[-1] + 1 - ts <= TOGETHER_NS:
            moments[-1] = ts - 1
        else:
            moments.append(ts - 1)
    return moments
