"""Format an explanation of a run as text for people and as the JSON object that scripts rely on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarm_predict.explain.explanation import Explained, Explanation
from swarm_predict.explain.published import Nearest
from swarm_predict.explain.usual import Range
from swarm_predict.types import Quantiles
from swarm_protocol.text import safe
from swarm_protocol.units import iso_utc
from swarmtop.analysis.plans.confidence import basis_text, speed_text, to_measure_object, to_measure_text
from swarmtop.analysis.runs.observed_run import Run
from swarmtop.text import quantities
from swarmtop.text.json_csv import Value
from swarmtop.text.prediction import wrapped

SHOWN: Final = 8  # terms; what the rest explains is summed up
MIN_SHARE: Final = 0.01  # of a token: a term that explains less is not listed by itself
LABEL: Final = 12
UNEXPLAINED: Final = (
    "more than any term can explain: look for causes outside the prediction, such as other requests in flight, engine "
    "settings, or another placement or weight format than the one given"
)


def explanation_object(found: Explanation, run: Run | None) -> dict[str, object]:
    """Return the JSON object, with `"schema": 1`."""
    expected = found.expected
    return {
        "schema": 1,
        "model": expected.model,
        "weights": expected.weights,
        "engine": expected.engine,
        "client": expected.client,
        "placement": [{"node": s.node, "first": s.first, "last": s.last} for s in expected.placement],
        "verdict": found.verdict,
        "why_impossible": found.why_impossible or None,
        "expected": {
            "tokens_per_s": _speeds(expected.tokens_per_s),
            "tpot_ms": _speeds(expected.tpot_ms),
            "measured": expected.measured,
        },
        "usual": None
        if found.usual_ms is None or found.usual_tokens_per_s is None
        else {"tokens_per_s": _speeds(found.usual_tokens_per_s), "tpot_ms": _range(found.usual_ms)},
        "got": None if run is None else _got_object(run),
        "terms": [_term_object(term) for term in found.terms],
        "unexplained_ms": found.unexplained_ms,
        "published": [_published_object(each) for each in found.nearest],
        "measure_next": [to_measure_object(each) for each in found.measure_next],
        "notes": list(expected.notes),
    }


def _speeds(found: Quantiles) -> dict[str, float]:
    return {"p5": found.p5, "p50": found.p50, "p95": found.p95}


def _range(found: Range | None) -> dict[str, float] | None:
    return None if found is None else {"p5": found.p5, "p50": found.p50, "p95": found.p95}


def _got_object(run: Run) -> dict[str, Value]:
    return {
        "tokens_per_s": run.tokens_per_s,
        "tpot_ms": run.tpot_ms,
        "source": run.source,
        "runs": run.n,
        "time": iso_utc(run.at_ns) if run.at_ns else None,
    }


def _term_object(term: Explained) -> dict[str, object]:
    return {
        "kind": term.kind,
        "node": term.node,
        "to": term.to or None,
        "count": term.count,
        "here_ms": term.here_ms,
        "usual_ms": _range(term.usual),
        "explains_ms": term.explains_ms,
        "beside_usual_ms": term.beside_usual_ms,
        "beside_expected_ms": term.beside_expected_ms,
        "measured": term.measured,
        "evidence": list(term.evidence),
    }


def _published_object(each: Nearest) -> dict[str, object]:
    return {
        "name": each.name,
        "source": each.source,
        "model": each.model,
        "weights": each.weights,
        "engine": each.engine,
        "nodes": list(each.nodes),
        "tokens_per_s": each.tokens_per_s,
        "layer_ms": each.layer_ms,
        "layer_ms_here": each.layer_ms_here,
        "hop_ms": each.hop_ms,
        "hop_ms_here": each.hop_ms_here,
    }


# ---------------------------------------------------------------- for people


def explanation_text(found: Explanation, run: Run | None, width: int, grows: str | None = None) -> str:
    """`grows`: what several runs say that the difference grows with."""
    expected = found.expected
    client = f", client {safe(expected.client)}" if expected.client else ", client at the first stage"
    lines = [
        f"{safe(expected.model)} {expected.weights}, {expected.engine}{client}",
        ", ".join(f"{safe(s.node)}:{s.first}-{s.last}" for s in expected.placement),
        "",
        *_labelled("expected", _expected_text(found), width),
    ]
    if found.usual_tokens_per_s is not None:
        speed = found.usual_tokens_per_s
        usual = f"{quantities.spread(speed.p5, speed.p50, speed.p95, 'tok/s')} on similar machines over idle paths"
        lines += _labelled("usual", usual, width)
    lines += _labelled("measured", _got_text(run), width)
    lines += ["", *wrapped(verdict_text(found), width, ""), ""]
    lines += _terms_text(found, width)
    if grows is not None:
        lines += ["", *wrapped(grows, width, "")]
    for each in found.nearest:
        lines += ["", *wrapped(published_text(each), width, "")]
    if (unmeasured := unmeasured_text(found)) is not None:
        lines += ["", *wrapped(unmeasured, width, "")]
    if found.measure_next:
        lines += [*wrapped(f"measure first: {to_measure_text(found.measure_next)}", width, "")]
    if run is None:
        asked = "swarmtop watch URL --placement … measures a run; or give one with --run PLACEMENT=TOK/S"
        lines += wrapped(asked, width, "")
    if expected.notes:
        lines += ["", "assumed", *(line for note in expected.notes for line in wrapped(note, width))]
    return "\n".join(lines) + "\n"


def _labelled(label: str, text: str, width: int) -> list[str]:
    first, *rest = wrapped(text, width, " " * LABEL)
    return [label.ljust(LABEL) + first.lstrip(), *rest]


def _expected_text(found: Explanation) -> str:
    basis = basis_text(found.expected)
    return speed_text(found.expected) + (f", {basis}" if basis else "")


def _got_text(run: Run | None) -> str:
    if run is None:
        return "no run yet"
    text = f"{quantities.rate(run.tokens_per_s)}, {quantities.ms(run.tpot_ms)} per token"
    if run.source == "watched":
        runs = f"the median of the last {run.n} runs" if run.n > 1 else "one run"
        text += f", measured until {quantities.moment(run.at_ns)} ({runs})"
    return text


def verdict_text(found: Explanation) -> str:
    """`slower than predicted: 34.2 ms per token above the median`."""
    expected, got_ms = found.expected.tpot_ms, found.got_ms
    if got_ms is None:
        return "there is no run to explain: below is where the time per token is expected to go"
    if found.verdict == "impossible":
        return f"not possible here: {found.why_impossible}"
    side = "above" if got_ms > expected.p50 else "below"
    off = f"{quantities.ms(abs(got_ms - expected.p50))} per token {side} the median"
    if found.verdict == "as expected":
        said = f"within the predicted interval: {off}"
    else:
        said = f"{found.verdict} than predicted: {off}"
    usual = found.usual_ms
    if usual is None:
        return said
    if usual.holds(got_ms):
        return f"{said}; usual for such machines"
    return f"{said}; {'slower' if got_ms > usual.p95 else 'faster'} than usual for such machines"


def unmeasured_text(found: Explanation) -> str | None:
    """`not measured here: layers of lab-a4000, software at home`; None: everything was."""
    names = [_name(term) for term in sorted(found.terms, key=lambda term: -term.here_ms) if not term.measured]
    return f"not measured here: {', '.join(names)}" if names else None


def _terms_text(found: Explanation, width: int) -> list[str]:
    compared = found.got_ms is not None and found.verdict != "impossible"
    total = found.got_ms if compared and found.got_ms is not None else found.expected.tpot_ms.p50
    ordered = found.terms if compared else tuple(sorted(found.terms, key=lambda term: -term.here_ms))
    listed = ordered[:SHOWN]
    if compared:
        listed = tuple(term for term in ordered if abs(term.explains_ms) >= MIN_SHARE * total)[:SHOWN]
    title = "terms, compared with what is usual" if compared else "where the time per token is expected to go"
    names = [_name(term) for term in listed]
    wide = max((quantities.width(name) for name in names), default=0)
    lines = [title if listed else "every term is as usual"]
    if listed:
        lines.append(_row(("", "explains" if compared else "beyond", "here", "usual"), wide))
    for term, name in zip(listed, names, strict=True):
        usual = quantities.UNMEASURED if term.usual is None else _usual_text(term.usual)
        lines.append(_row((name, quantities.signed_ms(term.explains_ms), quantities.ms(term.here_ms), usual), wide))
        lines += [line for said in term.evidence for line in wrapped(said, width, "      ")]
    rest = [term for term in found.terms if term not in listed]
    if rest:
        sum_ms, here_ms = sum(term.explains_ms for term in rest), sum(term.here_ms for term in rest)
        what = f"{len(rest)} other term{'s' if len(rest) > 1 else ''}"
        lines.append(_row((what, quantities.signed_ms(sum_ms), quantities.ms(here_ms), ""), wide))
    if abs(found.unexplained_ms) >= MIN_SHARE * total:
        lines.append(_row(("unexplained", quantities.signed_ms(found.unexplained_ms), "", ""), wide))
        lines += wrapped(UNEXPLAINED, width, "      ")
    return lines


def _row(cells: Sequence[str], wide: int) -> str:
    name, explains, here, usual = cells
    row = f"  {quantities.pad(name, max(wide, 18))}  {quantities.pad(explains, 10, right=True)}"
    return f"{row}  {quantities.pad(here, 9, right=True)}  {usual}".rstrip()


def _usual_text(usual: Range) -> str:
    if usual.p95 - usual.p5 < 0.01 * usual.p50:
        return quantities.ms(usual.p50)
    return f"{quantities.figure(usual.p5)} to {quantities.figure(usual.p95)} ms"


def _name(term: Explained) -> str:
    node = safe(term.node)
    if term.kind == "path":
        return f"path {node} → {safe(term.to)}"
    if term.kind == "layers":
        return f"{term.count} layers of {node}" if term.count > 1 else f"one layer of {node}"
    words = {"head": "LM head of", "visits": "software at", "client": "client", "proofs": "proofs",
             "drafting": "drafting on", "unmodelled": "not in the calibration"}  # fmt: skip
    return f"{words[term.kind]} {node}".strip()


def published_text(each: Nearest) -> str:
    """`the nearest published setup gave 18.5 tok/s; yours has 3.1 ms more per hop`."""
    machines = f"{len(each.nodes)} machines" if len(each.nodes) > 1 else "one machine"
    said = (
        f"the nearest published setup of {machines}, {each.name} ({each.model} {each.weights}, {each.engine}), gave "
        f"{quantities.rate(each.tokens_per_s)}; yours has {_more(each.layer_ms_here - each.layer_ms)} per layer"
    )
    if each.hop_ms is not None and each.hop_ms_here is not None:
        said += f" and {_more(each.hop_ms_here - each.hop_ms)} per hop"
    return f"{said} ({each.source})"


def _more(difference_ms: float) -> str:
    return f"{quantities.ms(abs(difference_ms))} {'more' if difference_ms >= 0 else 'less'}"
