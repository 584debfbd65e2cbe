"""Read a pScheduler result of perfSONAR: of an rtt, a throughput or a latency test.

Read as `pscheduler result --format json` prints it and as archivers get it (`{"test": …, "result": …}`); durations are
ISO 8601 (RFC 3339 appendix A). A latency test compares two clocks, so its delays are ignored; their variation and the
loss do not depend on the clocks and are read.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from swarmtop.imports.findings import Found, ImportProblem, LinkFound, NodeFound, quantile

_DURATION: Final = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


def read(data: bytes, src: str | None = None, dst: str | None = None) -> Found:
    """Read a result. Without `src` and `dst` the names are those of the test's specification. Raises ImportProblem."""
    try:
        file = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImportProblem(f"this is not JSON ({error})") from error
    result, spec = _inside(file)
    if result.get("succeeded") is False:
        raise ImportProblem(f"this test did not succeed ({str(result.get('error', 'no reason given'))[:120]})")
    a, b = src or spec.get("source") or "source", dst or spec.get("dest") or "dest"
    if not isinstance(a, str) or not isinstance(b, str):
        raise ImportProblem("source and dest of this test are no names; give --from and --to")
    if isinstance(result.get("roundtrips"), list):
        return _round_trips(result, a, b)
    if "histogram-latency" in result:
        return _latency(result, a, b)
    if "summary" in result:
        return _throughput(result, a, b)
    raise ImportProblem("this is not a result of an rtt, throughput or latency test of perfSONAR")


def _inside(file: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the innermost result, and the test's specification."""
    spec: dict[str, Any] = {}
    for _ in range(3):
        if not isinstance(file, dict):
            raise ImportProblem("this is not a result of perfSONAR; it should be a JSON object")
        test = file.get("test")
        if isinstance(test, dict) and isinstance(test.get("spec"), dict):
            spec = test["spec"]
        if not isinstance(file.get("result"), dict):
            return file, spec
        file = file["result"]
    return file, spec


def _round_trips(result: dict[str, Any], src: str, dst: str) -> Found:
    trips = [trip for trip in result["roundtrips"] if isinstance(trip, dict)]
    times = [_ms(trip["rtt"]) for trip in trips if "rtt" in trip and "error" not in trip]
    if not times:
        raise ImportProblem("nothing came back in this test; there is no round trip in it")
    loss = _share(result.get("loss", 1 - len(times) / len(trips)), "loss")
    figures = {
        "rtt_ms": quantile(times, 0.5),
        "jitter_ms": quantile(times, 0.95) - min(times),
        "loss": min(loss, 0.999),
    }
    return Found(
        nodes=(NodeFound(src), NodeFound(dst)),
        links=(LinkFound(src, dst, **figures), LinkFound(dst, src, **figures)),
        notes=(f"{len(trips)} packets, {len(times)} came back; both directions get the figures",),
        source="perfSONAR rtt",
    )


def _latency(result: dict[str, Any], src: str, dst: str) -> Found:
    histogram = result["histogram-latency"]
    try:
        delays = sorted((float(ms), int(count)) for ms, count in histogram.items())
    except (AttributeError, TypeError, ValueError):
        raise ImportProblem("histogram-latency of this test is not a table of milliseconds and counts") from None
    total = sum(count for _, count in delays)
    if total <= 0:
        raise ImportProblem("nothing arrived in this test; there is no delay in it")
    seen, p95 = 0, delays[-1][0]
    for ms, count in delays:
        seen += count
        if seen >= 0.95 * total:
            p95 = ms
            break
    sent, lost = result.get("packets-sent", total), result.get("packets-lost", 0)
    if not isinstance(sent, int) or not isinstance(lost, int) or sent <= 0:
        raise ImportProblem(f"packets-sent and packets-lost of this test are {sent!s:.20} and {lost!s:.20}, not counts")
    loss = _share(lost / sent, "packets-lost")
    return Found(
        nodes=(NodeFound(src), NodeFound(dst)),
        links=(LinkFound(src, dst, jitter_ms=p95 - delays[0][0], loss=min(loss, 0.999)),),
        notes=(
            "one-way delays compare two clocks and are left out; jitter and loss are taken, as those of the round trip",
        ),
        source="perfSONAR latency",
    )


def _throughput(result: dict[str, Any], src: str, dst: str) -> Found:
    try:
        mbps = float(result["summary"]["summary"]["throughput-bits"]) / 1e6
    except (KeyError, TypeError, ValueError):
        raise ImportProblem("this throughput test has no summary with throughput-bits") from None
    if not 0 < mbps < 1e9:
        raise ImportProblem(f"throughput-bits of this test is {mbps * 1e6:g}; there is no rate in it")
    return Found(
        nodes=(NodeFound(src), NodeFound(dst)),
        links=(LinkFound(src, dst, mbps=mbps),),
        notes=(f"{src} sent {mbps:.1f} Mbit/s to {dst}; the other direction is another test",),
        source="perfSONAR throughput",
    )


def _ms(text: Any) -> float:
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None or not any(match.groups()):
        raise ImportProblem(f"{str(text)[:40]!r} is no ISO 8601 duration as PT0.0159S")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1e3


def _share(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ImportProblem(f"{name} of this test is {str(value)[:40]}, not a fraction")
    return float(value)
