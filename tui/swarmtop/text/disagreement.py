"""Describe where an engine and its prediction differ by more than noise: lines for people, keys for scripts, and the
command that calibrates."""

from __future__ import annotations

import argparse
import shlex
from typing import Final

from swarm_predict.explain.disagreement import LOOKS, Disagreement, Looks
from swarm_protocol.units import iso_utc
from swarmtop.text import quantities

AGAIN: Final = "engine and prediction agree again"


def disagreement_object(found: Disagreement | None, calibrate: str | None = None) -> dict[str, object] | None:
    if found is None:
        return None
    return {
        "runs": found.runs,
        "since": iso_utc(found.since_ns),
        "off_ms": found.off_ms,
        "looks_like": list(found.looks_like),
        "each": found.each,
        "agreed_before": found.agreed,
        "calibrate": calibrate,
    }


def disagreement_lines(found: Disagreement, calibrate: str) -> list[str]:
    """`slower than predicted for longer than noise: 5 runs since 14:02:11, 23.4 ms a token beyond the median`."""
    runs = f"{found.runs} run{'s' if found.runs != 1 else ''} since {quantities.moment(found.since_ns)[11:19]}"
    word, beyond = ("slower", "more") if found.slower else ("faster", "less")
    may, offer = (
        "swarmtop explain says which machines and paths may be behind it",
        f"{calibrate} puts it into predictions",
    )
    return [
        f"{word} than predicted for longer than noise: {runs}, {quantities.ms(abs(found.off_ms))} a token {beyond} "
        "than the median of the prediction",
        looks_text(found),
        f"engine and prediction agreed before, so something has changed; {may}; if it stays, {offer}"
        if found.agreed
        else f"{may}; {offer}",
    ]


def looks_text(found: Disagreement) -> str:
    """`it looks like 7.8 ms more for every round trip`, and what would tell it from others that explain it as well."""
    if not found.looks_like:
        return "no single one of layers, round trips, bytes and tokens explains it"
    first, *others = found.looks_like
    if len(found.looks_like) == len(LOOKS):
        return "these runs cannot tell what it grows with; another placement and a longer prompt (watch --text) would"
    text = f"it looks like {_each(first, found.each or 0.0)}"
    if others:
        text += f"; {' or '.join(others)} would explain it as well: another placement or a longer prompt would tell"
    if first == "bytes":
        text += "; measure the upload again, and look for lost packets, which keep TCP's windows small"
    return text


def _each(looks: Looks, each: float) -> str:
    more = "more" if each > 0 else "less"
    if looks == "layers":
        return f"layers that take {quantities.figure(1 + each)} times their predicted time"
    where = {"round trips": "round trip", "bytes": "kilobyte", "every token": "token"}[looks]
    return f"{quantities.ms(abs(each))} {more} for every {where}"


def calibrate_command(args: argparse.Namespace, tokens_per_s: float, *, only_now: bool = False) -> str:
    """The line that learns from the runs that were watched, with the options of the watch. `only_now`: from this speed
    alone, since the earlier runs are of another state."""
    words = ["swarmtop", "calibrate"]
    if args.connect:
        words += ["--connect", f"{args.connect[0]}:{args.connect[1]}"]
    for option in ("fingerprint", "swarm", "nodes", "db"):
        if getattr(args, option, None):
            words += [f"--{option}", str(getattr(args, option))]
    if args.runs and not only_now:
        words += ["--runs", args.runs]
    elif args.connect and not only_now:
        words.append("--observed")
    else:
        words += ["--run", f"{args.placement}={tokens_per_s:.4g}"]
    for option in ("model", "weights", "engine", "client"):
        if getattr(args, option):
            words += [f"--{option}", str(getattr(args, option))]
    return shlex.join([*words, "--out", f"{args.engine or 'chain'}.json"])
