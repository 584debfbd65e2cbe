"""Write and read the status that `swarm-probe status` prints, and lock a state folder for one probe at a time.

The daemon writes `status.json` whole each time; the command reads it and checks whether the lock is held, so that a
file left by a killed probe does not look like a running one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

import msgspec

from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S, gib, iso_utc

STATUS_FILE = "status.json"
LOCK_FILE = "lock"


class StateError(Exception):
    """The state folder cannot be used; one line that says what to do.

    StateError
    └── AlreadyRunning    another probe holds it
    """


class AlreadyRunning(StateError):
    pass


class Status(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    version: str
    started_ns: int
    at_ns: int  # when this was written
    collector: str
    link: str  # one line, as in the log
    joined: bool
    node_id: str
    name: str
    plan: str  # one line; empty: none yet
    compute: str
    udp: str  # one line
    spool_batches: int
    spool_bytes: int
    spool_trouble: str | None = None
    restarted: str = ""  # parts that ended and were restarted
    waiting: str = ""  # why tests are paused; empty: they are not
    traffic: str = ""  # of the last 24 hours, one line
    today: dict[str, tuple[int, int]] = {}  # kind → bytes sent, received since midnight UTC
    counters: dict[str, int] = {}
    machine: str = ""  # its own figures, one line; `–` and why where it does not tell
    computing: str = ""  # seconds of processor and GPU, one line
    url: str = ""  # of the collector; empty: written by an older probe


class StateLock:
    """A lock held until `close` or the end of the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock. Raises StateError, AlreadyRunning among them."""
        path = folder / LOCK_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"cannot use {folder} ({error.strerror}); give --state another folder") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._fd, 32).decode(errors="replace").strip()
            os.close(self._fd)
            who = f" (process {holder})" if holder.isdecimal() else ""
            raise AlreadyRunning(
                f"a probe{who} already runs with the state in {folder}; stop it or give --state another folder"
            ) from error
        with contextlib.suppress(OSError):  # only clarifies the error above; a full disk has no room even for this
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        os.close(self._fd)


def is_running(folder: Path) -> bool:
    """Return whether a probe holds this folder."""
    try:
        fd = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def write_status(folder: Path, status: Status) -> None:
    """Write the status. Raises OSError."""
    draft = folder / f"{STATUS_FILE}.new"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(status)))
    draft.replace(folder / STATUS_FILE)


def read_status(folder: Path) -> Status | None:
    """Return the status; None: there is none, or it is invalid."""
    try:
        return msgspec.json.decode((folder / STATUS_FILE).read_bytes(), type=Status)
    except (OSError, msgspec.DecodeError):
        return None


def describe(status: Status, now_ns: int) -> list[str]:
    """Return the lines of `swarm-probe status`."""
    age_s = max(0, now_ns - status.at_ns) // NS_PER_S
    today = ", ".join(
        f"{safe(kind)} {sent / 1e6:.2f} MB out {received / 1e6:.2f} in"
        for kind, (sent, received) in status.today.items()
    )
    traffic = ", ".join(f"{safe(name)} {count}" for name, count in status.counters.items())
    waiting = "1 batch waits" if status.spool_batches == 1 else f"{status.spool_batches} batches wait"
    spool = f"{waiting} ({gib(status.spool_bytes) * 1024:.1f} MiB on disk)"
    rows = {
        "probe": f"{safe(status.name)} (node {safe(status.node_id)}), process {status.pid}, {safe(status.version)}",
        "since": f"{iso_utc(status.started_ns)}, these lines are {age_s} s old",
        "collector": safe(status.link, 300),
        "plan": safe(status.plan, 300) or "none yet",
        "udp": safe(status.udp, 300),
        "layers": safe(status.compute, 300),
        **({"restarted": safe(status.restarted, 300)} if status.restarted else {}),
        "spool": spool + (f"; not writing: {safe(status.spool_trouble)}" if status.spool_trouble else ""),
        "tests": safe(status.waiting, 300) or "as planned",
        "traffic": safe(status.traffic, 300),
        "computing": safe(status.computing, 300) or "nothing yet",
        "machine": safe(status.machine, 600) or "not looked at yet",
        "today": today or "nothing yet",
        "counted": traffic or "nothing yet",
    }
    return [f"{name:<10} {text}" for name, text in rows.items()]
