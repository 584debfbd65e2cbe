"""Read round trips of one path as `ping` and `mtr` print them, of any system and in several languages.

    ping     Linux, BusyBox, macOS and BSD, Windows: single times, else the summary
    mtr      --json, --csv, or --report

Single times give the median and their spread. A summary has the mean and the deviation: the median is then assumed to
be the mean, and p95 − min is computed as for a normal distribution, which a note says.
"""

from __future__ import annotations

import csv
import json
import re
from typing import Any, Final

from swarmtop.imports.findings import Found, ImportProblem, LinkFound, Names, NodeFound, quantile
from swarmtop.imports.gpu.card import number

Z95: Final = 1.645  # standard normal quantile
ENOUGH: Final = 5  # single times: with fewer the summary is better
HERE: Final = "here"
OF_DEVIATION: Final = "the mean of the summary stands for the median; jitter is worked out from its spread"
OF_RANGE: Final = "the mean of the summary stands for the median, and max − min for the jitter"
CSV_HEAD: Final = "Mtr_Version,"
_NUMBER: Final = r"(\d+(?:[.,]\d+)?)"
_TIME_WORDS: Final = "time|zeit|temps|tiempo|tempo|durata|tid|tijd|czas|время|时间|時間"
_TIME: Final = re.compile(rf"(?:{_TIME_WORDS})\s*[=<]\s*{_NUMBER}\s*(?:ms|мс|毫秒)", re.IGNORECASE)
_SUMMARY: Final = re.compile(
    rf"(?:rtt|round-trip)\s+min/avg/max(?:/\w+)?\s*=\s*{_NUMBER}/{_NUMBER}/{_NUMBER}(?:/{_NUMBER})?\s*ms"
)
_WINDOWS: Final = re.compile(rf"=\s*{_NUMBER}\s*ms[,;]\s*\S.*?=\s*{_NUMBER}\s*ms[,;]\s*\S.*?=\s*{_NUMBER}\s*ms")
_LOSS: Final = re.compile(rf"{_NUMBER}\s*%")
_COUNTS: Final = re.compile(r"(\d+) packets transmitted, (\d+) (?:packets )?received")
_TARGET: Final = re.compile(r"^PING6?[\s(]+([^\s(]+)|^\S.*?\[([0-9A-Fa-f.:]+)\]", re.MULTILINE)
_UNREACHABLE: Final = re.compile(  # an answer of a router, which Windows counts as received
    r"unreachable|expired in transit|nicht erreichbar|überschritten|injoignable|inaccesible|non raggiungibile"
    r"|inacessível|niet bereikbaar|недоступ",
    re.IGNORECASE,
)
_SENT: Final = re.compile(r"^[^=\n%]*=\s*(\d+)\s*[,;][^=\n]*=\s*(\d+)\s*[,;][^=\n]*=\s*\d+\b(?!\s*ms)", re.MULTILINE)
_HUB: Final = re.compile(
    rf"^\s*\d+\.\|?-*\s+(?:AS\S+\s+)?(\S+)\s+{_NUMBER}%?\s+(\d+)\s+{'  *'.join([_NUMBER] * 5)}", re.MULTILINE
)


def ping(text: str, src: str | None, dst: str | None) -> Found:
    """Read ping's output. Raises ImportProblem."""
    if not is_ping(text):
        raise ImportProblem("this is not an output of ping; ping -c 20 HOST > FILE writes one")
    target = _TARGET.search(text)
    times = [_float(value) for value in _TIME.findall(text)]
    loss = _ping_loss(text)
    summary = _SUMMARY.search(text)
    windows = None if summary else _WINDOWS.search(text)
    jitter_ms: float | None
    where = dst or ((target[1] or target[2]) if target else None) or "there"
    if len(times) >= ENOUGH:
        rtt_ms, jitter_ms = quantile(times, 0.5), quantile(times, 0.95) - min(times)
        said = f"{len(times)} answers: median and p95 − min of them"
    elif summary:
        low, mean, high = (_float(summary[k]) for k in (1, 2, 3))
        rtt_ms, jitter_ms = mean, _spread(low, mean, high, _float(summary[4]) if summary[4] else None)
        said = OF_DEVIATION if summary[4] else OF_RANGE
    elif windows:
        low, high, mean = (_float(windows[k]) for k in (1, 2, 3))
        rtt_ms, jitter_ms, said = mean, high - low, OF_RANGE
    elif times:
        rtt_ms, jitter_ms, said = quantile(times, 0.5), None, f"{len(times)} answers: too few for a jitter"
    else:
        raise ImportProblem("nothing came back in this ping; there is no round trip in it")
    return _path(src, where, rtt_ms, jitter_ms, loss, said, "ping")


def is_ping(text: str) -> bool:
    marks = re.search(r"ping statistics|^PING |Ping-Statistik", text, re.MULTILINE | re.IGNORECASE)
    return bool(marks or _SUMMARY.search(text) or _TIME.search(text))


def mtr(text: str, src: str | None, dst: str | None) -> Found:
    """Read mtr's last host, which is the target. Raises ImportProblem."""
    stripped = text.lstrip()
    if stripped.startswith(CSV_HEAD):
        return _mtr_csv(stripped, src, dst)
    if not stripped.startswith("{"):
        return _mtr_report(text, src, dst)
    try:
        report = json.loads(stripped)["report"]
        head, hubs = report["mtr"], report["hubs"]
        last = hubs[-1]
        host = str(last["host"])
    except (ValueError, RecursionError, KeyError, IndexError, TypeError) as error:
        raise ImportProblem("this is not a report of mtr; mtr --json -c 20 HOST > FILE writes one") from error
    figures = {key: _figure(last, key) for key in ("Loss%", "Avg", "Best", "Wrst", "StDev")}
    asked = str(head.get("dst", host)) if isinstance(head, dict) else host
    if host == "???" or figures["Avg"] is None or (figures["Loss%"] or 0.0) >= 100:
        raise ImportProblem(f"mtr did not reach {asked[:60]}: its last answer is from another host")
    begin = src or (str(head.get("src", HERE)) if isinstance(head, dict) else HERE)
    return _of_mtr(begin, dst or asked, figures, len(hubs))


def _mtr_csv(text: str, src: str | None, dst: str | None) -> Found:
    """Read `mtr --csv`: a line for each host on the way, all with the target's name."""
    hubs = [row for row in csv.DictReader(text.splitlines()) if row.get("Hop")]
    last: dict[str, Any] = hubs[-1] if hubs else {}
    asked = str(last.get("Host") or "the host")
    figures = {key: _figure(last, key) for key in ("Loss%", "Avg", "Best", "Wrst", "StDev")}
    if last.get("Ip") in (None, "???") or figures["Avg"] is None or (figures["Loss%"] or 0.0) >= 100:
        raise ImportProblem(f"mtr did not reach {asked[:60]}: its last answer is from another host")
    return _of_mtr(src or HERE, dst or asked, figures, len(hubs))


def _mtr_report(text: str, src: str | None, dst: str | None) -> Found:
    hubs = _HUB.findall(text)
    if not hubs or hubs[-1][0] == "???":
        raise ImportProblem(
            "this is not a report of mtr that reached its host; mtr --json -c 20 HOST > FILE writes one"
        )
    host, loss, _, _, mean, low, high, deviation = hubs[-1]
    begin = re.search(r"^HOST:\s*(\S+)", text, re.MULTILINE)
    values = (loss, mean, low, high, deviation)
    keys = ("Loss%", "Avg", "Best", "Wrst", "StDev")
    figures: dict[str, float | None] = dict(zip(keys, map(_float, values), strict=True))
    return _of_mtr(src or (begin[1] if begin else HERE), dst or host, figures, len(hubs))


def _of_mtr(src: str, dst: str, figures: dict[str, float | None], hops: int) -> Found:
    mean = figures["Avg"] or 0.0
    low, high = figures["Best"], figures["Wrst"]
    jitter = None if low is None or high is None else _spread(low, mean, high, figures["StDev"])
    said = f"over {hops} hops; the mean stands for the median, jitter is worked out from its spread"
    return _path(src, dst, mean, jitter, (figures["Loss%"] or 0.0) / 100, said, "mtr")


def _figure(hub: Any, key: str) -> float | None:
    return number(hub.get(key) if isinstance(hub, dict) else None, f"{key} of mtr's last host")


def _spread(low: float, mean: float, high: float, deviation: float | None) -> float:
    """Return p95 − min, at most max − min, which it is without a deviation."""
    if deviation is None:
        return high - low
    return max(0.0, min(high - low, mean + Z95 * deviation - low))


def _ping_loss(text: str) -> float | None:
    counts = _COUNTS.search(text)
    if counts and int(counts[1]):
        return 1 - min(1.0, int(counts[2]) / int(counts[1]))
    if (sent := _SENT.search(text)) and int(sent[1]):  # Windows
        answers = max(0, int(sent[2]) - len(_UNREACHABLE.findall(text)))
        return 1 - min(1.0, answers / int(sent[1]))
    lines = [line for line in text.splitlines() if "%" in line]
    match = _LOSS.search(lines[-1]) if lines else None
    return _float(match[1]) / 100 if match else None


def _path(
    src: str | None, dst: str, rtt_ms: float, jitter_ms: float | None, loss: float | None, said: str, source: str
) -> Found:
    names = Names()
    a, b = names.of(src or HERE), names.of(dst)
    notes = [said, "both directions get the figures"]
    if a == HERE:
        notes.append(f"{source} does not name this machine: it is called {a}; --from NODE and --to NODE name both")
    lost = None if loss is None else min(loss, 0.999)
    return Found(
        nodes=(NodeFound(a), NodeFound(b)),
        links=tuple(LinkFound(x, y, rtt_ms=rtt_ms, jitter_ms=jitter_ms, loss=lost) for x, y in ((a, b), (b, a))),
        notes=tuple(notes),
        source=source,
    )


def _float(text: str) -> float:
    return float(text.replace(",", "."))
