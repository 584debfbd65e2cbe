"""Count what this probe sends and receives against its daily limit, in a file that its owner can read.

The limit is a number of bytes in any 24 hours, both directions together. It holds across restarts: an hour's bytes are
forgotten a day after that hour, and an unreadable file counts as a day's worth in the hour of the start. Up to
FREE_SHARE of it everything is done; above, tests of hops and uplinks pause and round trips become rare, so that some
figure comes all day; near its end nothing is sent but what the collector connection needs, and at its end that is
closed too (`over`). The collector may lower the number for tests, never raise it.

Bytes are those on the wire as far as a program can know them: UDP with its headers, TCP payload with a share for
headers and acknowledgements. Decisions are pure; time is passed in. `traffic.json` holds the totals, `traffic.log` one
line a minute for each kind and peer, in four files of 256 KiB.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path
from typing import Final, Literal

import msgspec

from swarm_protocol.sizes_durations import parse_size
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S, iso_utc

DAILY_BYTES: Final = 50_000_000
FREE_SHARE: Final = 0.6
# the rest is for the connection to the collector: heartbeats and samples once a minute are 4 MB a day with headers
SPENT_SHARE: Final = 0.9
BACK_SHARE: Final = 0.99  # of the day's bytes: below it a closed connection may be tried again
UDP_HEADERS: Final = {4: 28, 6: 48}
TCP_SHARE: Final = 1.06  # 52 of 1500 bytes, and acknowledgements the other way
TCP_CONNECTION: Final = 600  # handshakes at both ends
HOUR_NS: Final = 3600 * NS_PER_S
HOURS: Final = 24
DAY_NS: Final = HOURS * HOUR_NS
STATE_FILE: Final = "traffic.json"
LOG_FILE: Final = "traffic.log"
LOG_BYTES: Final = 256 << 10
LOG_FILES: Final = 4
MAX_PEERS: Final = 512  # of one day in the totals; others share one line

Kind = Literal["stamp", "hop", "uplink", "collector", "stranger", "other"]
Level = Literal["free", "thrifty", "spent"]


class _Totals(msgspec.Struct, array_like=True):
    sent: int = 0
    received: int = 0


class _File(msgspec.Struct):
    """The record on disk. `hours`: hour since 1970 → bytes of both directions."""

    hours: dict[int, int] = {}
    unasked: dict[int, int] = {}  # the part sent by strangers: leaving the collector would not stop it
    days: dict[str, dict[str, dict[str, _Totals]]] = {}  # date → kind → peer → bytes


class TrafficBudget(msgspec.Struct):
    daily_bytes: int | None = DAILY_BYTES  # None: the owner sets no limit
    folder: Path | None = None
    trouble: str | None = None  # why the record cannot be written, in one line
    _collector_bytes: int | None = None
    _file: _File = msgspec.field(default_factory=_File)
    _since: dict[tuple[str, str], _Totals] = msgspec.field(default_factory=lambda: defaultdict(_Totals))
    _booked: dict[tuple[str, str], tuple[_Totals, _Totals]] = {}  # where (kind, peer) is counted: `_since`, `_today`
    _today: int = -1  # UTC day since 1970 that `_booked` is of
    _summed: int = -1  # hour since 1970 that `_used` was summed up for; each packet asks
    _used: int = 0

    @classmethod
    def open(cls, daily_bytes: int | None, folder: Path, now_ns: int) -> TrafficBudget:
        """Continue where the record ends. A damaged one counts as a whole day's worth, used this hour."""
        traffic_budget = cls(daily_bytes, folder)
        try:
            traffic_budget._file = msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=_File)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            traffic_budget.trouble = (
                f"{folder / STATE_FILE} cannot be read ({safe(str(error), 80)}); counted as a day's worth"
            )
            traffic_budget._file = _File(hours={now_ns // HOUR_NS: daily_bytes or 0})
        return traffic_budget

    # ------------------------------------------------------------ decisions

    def lower(self, collector_bytes: int | None) -> None:
        """Take the collector's limit; it counts only where it is less than the owner's."""
        self._collector_bytes = collector_bytes

    @property
    def limit_bytes(self) -> int | None:
        known = [limit for limit in (self.daily_bytes, self._collector_bytes) if limit is not None]
        return min(known) if known else None

    def used_bytes(self, now_ns: int) -> int:
        """Return the bytes of the last 24 hours and the rest of the hour before them. An hour of the future (the clock
        was set back) counts too, so that setting the clock gains nothing."""
        hour = now_ns // HOUR_NS
        if hour != self._summed:
            self._summed = hour
            self._used = sum(size for at, size in self._file.hours.items() if at >= hour - HOURS)
        return self._used

    def level(self, now_ns: int) -> Level:
        limit = self.limit_bytes
        if limit is None:
            return "free"
        used = self.used_bytes(now_ns)
        if used >= SPENT_SHARE * limit:
            return "spent"
        return "thrifty" if used >= FREE_SHARE * limit else "free"

    def over(self, now_ns: int, share: float = 1.0) -> bool:
        """Return whether the owner's bytes are used, and the connection to the collector has to end too."""
        if self.daily_bytes is None:
            return False
        hour = now_ns // HOUR_NS
        unasked = sum(size for at, size in self._file.unasked.items() if at >= hour - HOURS)
        return self.used_bytes(now_ns) - unasked >= share * self.daily_bytes

    def back_in_s(self, now_ns: int) -> float:
        """Return after how many seconds there is room for a connection again, if nothing else is used until then."""
        for later in range(HOURS + 2):
            at_ns = now_ns if not later else (now_ns // HOUR_NS + later) * HOUR_NS
            if not self.over(at_ns, BACK_SHARE):
                return (at_ns - now_ns) / NS_PER_S
        return HOURS * HOUR_NS / NS_PER_S  # an allowance of zero, or hours of the future

    def room_bytes(self, now_ns: int) -> int:
        """Return what one test may send or receive now."""
        limit = self.limit_bytes
        if limit is None:
            return 1 << 62
        return max(0, int((FREE_SHARE * limit - self.used_bytes(now_ns)) / TCP_SHARE) - TCP_CONNECTION)

    # ------------------------------------------------------------ usage

    def spend(self, kind: Kind, peer: str, sent: int, received: int, now_ns: int) -> None:
        hour, size = now_ns // HOUR_NS, sent + received
        self._file.hours[hour] = self._file.hours.get(hour, 0) + size
        if hour == self._summed:
            self._used += size
        else:
            self._summed = -1
        if kind == "stranger":
            self._file.unasked[hour] = self._file.unasked.get(hour, 0) + received
        if now_ns // DAY_NS != self._today:
            self._today = now_ns // DAY_NS
            self._booked.clear()
        booked = self._booked.get((kind, peer))
        if booked is None:
            booked = self._booked[kind, peer] = self._since[kind, peer], self._of_day(kind, peer, now_ns)
        for totals in booked:
            totals.sent += sent
            totals.received += received

    def spend_udp(self, kind: Kind, peer: str, *, sent: int = 0, received: int = 0, version: int, now_ns: int) -> None:
        """Account for up to one datagram each way, payload in bytes."""
        headers = UDP_HEADERS[version]
        self.spend(kind, peer, sent + headers if sent else 0, received + headers if received else 0, now_ns)

    def spend_tcp(self, kind: Kind, peer: str, *, sent: int, received: int, now_ns: int) -> None:
        """Account for one connection from its beginning to its end, payload in bytes."""
        self.spend(kind, peer, round(sent * TCP_SHARE) + TCP_CONNECTION, round(received * TCP_SHARE), now_ns)

    def _of_day(self, kind: str, peer: str, now_ns: int) -> _Totals:
        day = self._file.days.setdefault(iso_utc(now_ns)[:10], {}).setdefault(kind, {})
        if (known := day.get(peer)) is not None:
            return known
        if len(day) >= MAX_PEERS:
            peer = "(others)"
        return day.setdefault(peer, _Totals())

    def totals(self, now_ns: int) -> dict[str, tuple[int, int]]:
        """Return kind → (sent, received) of this UTC day."""
        day = self._file.days.get(iso_utc(now_ns)[:10], {})
        return {
            kind: (sum(t.sent for t in of.values()), sum(t.received for t in of.values()))
            for kind, of in sorted(day.items())
        }

    # ------------------------------------------------------------ the record

    def write(self, now_ns: int) -> None:
        """Write totals and, of what is new since the last time, a line for each kind and peer. Raises nothing."""
        hour = now_ns // HOUR_NS
        self._file.hours = {at: size for at, size in self._file.hours.items() if at >= hour - HOURS}
        self._file.unasked = {at: size for at, size in self._file.unasked.items() if at >= hour - HOURS}
        for old in sorted(self._file.days)[:-7]:
            del self._file.days[old]
        self._booked.clear()  # what was counted there is written, or forgotten
        if self.folder is None:
            self._since.clear()
            return
        try:
            draft = self.folder / f"{STATE_FILE}.new"
            draft.write_bytes(msgspec.json.encode(self._file))
            draft.replace(self.folder / STATE_FILE)
            self._log(now_ns)
            self.trouble = None
        except OSError as error:
            self.trouble = f"the record of traffic cannot be written ({error.strerror})"
        self._since.clear()

    def _log(self, now_ns: int) -> None:
        lines = [
            f"{iso_utc(now_ns)[:19]}Z {kind} {safe(peer) or '-'} sent {totals.sent} received {totals.received}\n"
            for (kind, peer), totals in sorted(self._since.items())
        ]
        if not lines:
            return
        assert self.folder is not None
        path = self.folder / LOG_FILE
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size + sum(map(len, lines)) > LOG_BYTES:
                for number in range(LOG_FILES - 1, 0, -1):
                    older = path.with_suffix(f".log.{number - 1}") if number > 1 else path
                    with contextlib.suppress(FileNotFoundError):
                        older.replace(path.with_suffix(f".log.{number}"))
        with path.open("a") as file:
            file.writelines(lines)


def parse_daily(text: str) -> int | None:
    """Parse `50MB`, `2GiB`, `50000000`; None for `none`. Raises ValueError."""
    return None if text.strip().lower() == "none" else parse_size(text, least=0)
