"""Format the result of `swarmtop calibrate` as text for people and as the JSON object that scripts rely on."""

from __future__ import annotations

from collections.abc import Sequence

from swarm_predict.calibration.calibration_file import Change, Learnt, Range
from swarm_predict.calibration.fit import ORDER, Calibration
from swarm_protocol.text import safe
from swarmtop.text import quantities
from swarmtop.text.prediction import table


def learnt_object(found: Learnt, changes: Sequence[Change]) -> dict[str, object]:
    """Times are for one step, in ms."""
    return {
        "version": found.version,
        "runs": [
            {
                "run": run.label,
                "model": run.model,
                "weights": run.weights,
                "engine": run.engine,
                "observed_ms": run.observed_ms,
                **_whole(run.label, changes),
            }
            for run in found.runs
        ],
        "terms": [
            {"run": each.run, "what": each.what, "before_ms": _range(each.before), "after_ms": _range(each.after)}
            for each in changes
            if each.observed_ms is None
        ],
        "contradictions": list(found.contradictions),
        "refused": list(found.refused),
    }


def _whole(label: str, changes: Sequence[Change]) -> dict[str, object]:
    whole = next(each for each in changes if each.run == label and each.observed_ms is not None)
    return {
        "before_ms": _range(whole.before),
        "after_ms": _range(whole.after),
        "predicted_ms": whole.after.p50,
    }


def _range(given: Range) -> dict[str, float]:
    return {"p5": given.p5, "p50": given.p50, "p95": given.p95}


def learnt_text(found: Learnt, changes: Sequence[Change], out: str | None) -> str:
    """Each run with what was expected of it, and below it its terms before and after."""
    lines = []
    for run in found.runs:
        mine = [each for each in changes if each.run == run.label]
        whole = mine[0]
        off = run.observed_ms / whole.before.p50 - 1
        than = f"{abs(off):.0%} {'slower' if off > 0 else 'faster'} than expected"
        lines += [
            f"{safe(run.label)}: {safe(run.model)} {safe(run.weights)}, {safe(run.engine)}; observed "
            f"{quantities.ms(run.observed_ms)} a token, {than}",
            *table(
                ("", "BEFORE", "WITH ALL RUNS"),
                [(safe(each.what), _text(each.before), _text(each.after)) for each in mine],
                words={0},
            ),
            "",
        ]
    for title, said in (("contradictions", found.contradictions), ("refused", found.refused)):
        if said:
            lines += [title, *(f"  {safe(line, 400)}" for line in said), ""]
    lines.append(
        f"written to {safe(out)}; use it with --calibration {safe(out)}"
        if out
        else "nothing was kept; --out FILE writes what --calibration takes"
    )
    return "\n".join(lines) + "\n"


def _text(given: Range) -> str:
    return quantities.spread(given.p5, given.p50, given.p95, "ms")


def constants_text(found: Calibration, out: str | None) -> str:
    held = {"hop": "software per hop", "compute": "compute, measured / predicted", "client": "client, each step"}
    values = {
        "hop": quantities.ms(found.hop_overhead_ms),
        "compute": f"× {found.compute_scale:.3g}",
        "client": quantities.ms(found.client_ms),
    }
    rows = [(held[c], values[c], "fitted" if c in found.fitted else "not fitted") for c in ORDER]
    wide = [max(quantities.width(row[i]) for row in rows) for i in range(2)]
    lines = [f"{safe(found.model)} {found.weights}, {found.engine}", ""]
    lines += [f"  {quantities.pad(a, wide[0])}  {quantities.pad(b, wide[1], right=True)}  {c}" for a, b, c in rows]
    lines += ["", "runs"]
    names = max(quantities.width(safe(r.run)) for r in found.runs)
    lines += [
        f"  {quantities.pad(safe(r.run), names)}  observed {quantities.ms(r.observed_ms)}, "
        f"fitted {quantities.ms(r.predicted_ms)}, "
        f"{r.relative:+.1%}"
        for r in found.runs
    ]
    if found.contradictions:
        lines += ["", "contradictions", *(f"  {safe(line, 300)}" for line in found.contradictions)]
    if out:
        lines += ["", f"written to {safe(out)}; use it with --calibration {safe(out)}"]
    return "\n".join(lines) + "\n"
