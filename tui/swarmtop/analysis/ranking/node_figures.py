"""Compute one row of figures for each node from its links: what the ranking shows and sorts by, as numpy columns.

Round trips and jitter are the median over the measured links of a node, both directions; p99 is that of its worst link,
because a pipeline waits for the worst; loss is the mean. NaN means "not measured" and stays NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from swarm_protocol.snapshot.lazy_numpy import np
from swarm_protocol.snapshot.swarm import Bytes, Floats, Ints, Kind, Swarm
from swarm_protocol.units import NS_PER_S

if TYPE_CHECKING:
    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]
    AnyArray = npt.NDArray[Any]
else:  # names of annotations only: see numpy_later
    Bools = AnyArray = object

BAND: Final = 64  # nodes at a time
USED: Final = ("kind", "rtt_p50_ms", "rtt_p99_ms", "jitter_ms", "loss", "at_ns")

STALE_AFTER_S = 60.0  # an older figure is shown faded: a window of round trips closes far more often
FEW_MIDDLES = 8  # so few places are found faster by partition than by sorting


class OfLinks(NamedTuple):
    """Figures of each node from its links; columns of shape (n,)."""

    rtt50_ms: Floats
    rtt99_ms: Floats
    jitter_ms: Floats
    loss: Floats  # fraction
    estimated: Bools  # its round trips are estimated, not measured
    worst: Ints  # row of the peer with the worst p99; -1: none
    newest_ns: Ints  # moment of the newest link figure; 0: none


class SwarmMedians(NamedTuple):
    """Middles over all measured links of a swarm."""

    measured: int
    p50_ms: float  # of the median link; NaN: none is known
    p99_ms: float
    loss: float  # mean, fraction


NO_MIDDLES: Final = SwarmMedians(0, float("nan"), float("nan"), float("nan"))


class Figures(msgspec.Struct, frozen=True):
    """Columns of shape (n,), rows as in the swarm."""

    model: str  # of `layer_ms`
    of_links: OfLinks
    up_mbps: Floats
    up_kind: Bytes
    down_mbps: Floats
    down_kind: Bytes
    layer_ms: Floats  # decode, of the model asked for
    age_s: Floats  # time since the node was last heard from
    rtt_age_s: Floats  # since its newest link figure
    links_measured: int  # of the whole swarm, like the next three
    links_p50_ms: float  # of the median measured link
    links_p99_ms: float
    links_loss: float  # mean over the measured links

    @property
    def rtt50_ms(self) -> Floats:
        return self.of_links.rtt50_ms

    @property
    def rtt99_ms(self) -> Floats:
        return self.of_links.rtt99_ms

    @property
    def jitter_ms(self) -> Floats:
        return self.of_links.jitter_ms

    @property
    def loss(self) -> Floats:
        return self.of_links.loss

    @property
    def estimated(self) -> Bools:
        return self.of_links.estimated

    @property
    def worst(self) -> Ints:
        return self.of_links.worst


def no_links(swarm: Swarm) -> bool:
    """Return figures for a swarm in which no pair has been measured; one value is shared by all columns."""
    kind = swarm.links["kind"]
    return kind.size == 0 or (kind.strides == (0, 0) and kind[0, 0] == Kind.NONE)


def link_known(swarm: Swarm) -> Bools:
    """Return (n, n): whether there is a round trip figure, of any kind; never on the diagonal."""
    known: Bools = (swarm.links["kind"] != Kind.NONE) & np.isfinite(swarm.links["rtt_p50_ms"])
    np.fill_diagonal(known, False)
    return known


def age_s(at_ns: Ints, now_ns: int) -> Floats:
    """Return seconds since each moment; NaN if it never was. A clock that runs ahead gives 0, not a negative age."""
    ages = np.maximum(0.0, (now_ns - at_ns.astype(np.float64)) / NS_PER_S)
    return np.where(at_ns > 0, ages, np.nan)


def figures(swarm: Swarm, model: str, now_ns: int) -> Figures:
    """Return the figures of all nodes. The links are read by rows, some nodes at a time: a thousand nodes have a
    million of them."""
    n = len(swarm)
    layers = np.array([layer_ms(swarm, i, model) for i in range(n)], np.float64)
    if no_links(swarm):
        return assembled(swarm, model, layers, unmeasured(n), NO_MIDDLES, now_ns)
    return assembled(swarm, model, layers, of_links(swarm.links, np.arange(n)), middles(swarm.links), now_ns)


def assembled(swarm: Swarm, model: str, layers: Floats, links: OfLinks, middle: SwarmMedians, now_ns: int) -> Figures:
    """Return the figures of a swarm of whose links this is known."""
    return Figures(
        model=model,
        of_links=links,
        up_mbps=swarm.nodes["up_mbps"],
        up_kind=swarm.nodes["up_kind"],
        down_mbps=swarm.nodes["down_mbps"],
        down_kind=swarm.nodes["down_kind"],
        layer_ms=layers,
        age_s=age_s(swarm.nodes["seen_ns"], now_ns),
        rtt_age_s=age_s(links.newest_ns, now_ns),
        links_measured=middle.measured,
        links_p50_ms=middle.p50_ms,
        links_p99_ms=middle.p99_ms,
        links_loss=middle.loss,
    )


def of_model(known: Figures, swarm: Swarm, model: str) -> Figures:
    """Return the same figures with the layer times of another model."""
    layers = np.array([layer_ms(swarm, i, model) for i in range(len(swarm))], np.float64)
    return msgspec.structs.replace(known, model=model, layer_ms=layers)


def unmeasured(n: int) -> OfLinks:
    unknown = np.full(n, np.nan)
    return OfLinks(
        unknown, unknown, unknown, unknown, np.zeros(n, bool), np.full(n, -1), np.zeros(n, np.int64)
    )  # fmt: skip


def of_links(links: Mapping[str, AnyArray], rows: Ints) -> OfLinks:
    """Return what the links of these nodes say, both directions together."""
    bands = [_of_band(links, rows[at : at + BAND]) for at in range(0, len(rows), BAND)]
    return OfLinks(*map(np.concatenate, zip(*bands, strict=True))) if bands else unmeasured(0)


def _of_band(links: Mapping[str, AnyArray], rows: Ints) -> OfLinks:
    n = links["kind"].shape[0]
    own = np.arange(n) == rows[:, None]
    kind, p50 = _both(links["kind"], rows), _both(links["rtt_p50_ms"], rows)
    off = ~np.concatenate([own, own], axis=1)
    known = (kind != Kind.NONE) & np.isfinite(p50) & off
    measured = known & (kind == Kind.MEASURED)
    some = measured.any(axis=1)
    use = np.where(some[:, None], measured, known)
    p99 = np.where(use, _both(links["rtt_p99_ms"], rows), np.nan)
    worst_of = np.fmax(p99[:, :n], p99[:, n:])
    has_p99 = np.asarray(np.isfinite(worst_of).any(axis=1))
    loss = _both(links["loss"], rows)
    return OfLinks(
        rtt50_ms=_median(np.where(use, p50, np.nan)),
        rtt99_ms=np.where(has_p99, np.nanmax(np.where(has_p99[:, None], worst_of, 0.0), axis=1), np.nan),
        jitter_ms=_median(np.where(use, _both(links["jitter_ms"], rows), np.nan)),
        loss=_mean(np.where(off & np.isfinite(loss), loss, np.nan)),
        estimated=~some & known.any(axis=1),
        worst=np.where(has_p99, np.argmax(np.nan_to_num(worst_of, nan=-1.0), axis=1), -1).astype(np.int64),
        newest_ns=np.where(known, _both(links["at_ns"], rows), 0).max(axis=1, initial=0),
    )


def middles(links: Mapping[str, AnyArray]) -> SwarmMedians:
    """Return the figures of the whole swarm. One buffer serves both medians: a dense swarm has a million links."""
    from swarm_protocol.snapshot.links.compact_links import is_compact  # numpy, which the first paint does without

    n = links["kind"].shape[0]
    values = np.empty(n * n, np.float32 if is_compact(links) else np.float64)  # in which they are held
    found, lost, losses, measured_links = [], 0.0, 0, 0
    for name in ("rtt_p50_ms", "rtt_p99_ms"):
        count = 0
        for at in range(0, n, BAND):
            band = slice(at, min(at + BAND, n))
            p50 = links["rtt_p50_ms"][band]
            measured = (links["kind"][band] == Kind.MEASURED) & np.isfinite(p50)
            rows = np.arange(p50.shape[0])
            measured[rows, rows + at] = False
            figures = (p50 if name == "rtt_p50_ms" else links[name][band])[measured]
            figures = figures[np.isfinite(figures)]
            values[count : count + len(figures)] = figures
            count += len(figures)
            if name == "rtt_p50_ms":
                loss = links["loss"][band][measured]
                known = np.isfinite(loss)
                lost, losses = lost + float(loss[known].sum()), losses + int(known.sum())
        if name == "rtt_p50_ms":
            measured_links = count
        found.append(_middle_of(values[:count]))
    return SwarmMedians(measured_links, found[0], found[1], lost / losses if losses else float("nan"))


def middle(figures: AnyArray) -> float:
    """Return the median of what is known; NaN: nothing is. (numpy.median would bring masked arrays, at the start.)"""
    return _middle_of(figures[np.isfinite(figures)])


def _middle_of(values: AnyArray) -> float:
    """Return the median; the values are put into another order."""
    if not len(values):
        return float("nan")
    low, high = (len(values) - 1) // 2, len(values) // 2
    values.partition((low, high) if high > low else low)
    return (float(values[low]) + float(values[high])) / 2


def badness(columns: Figures) -> list[float]:
    """Return for each node how far round trip, loss and layer time lie above the swarm's middle; 0 where unknown."""
    total = np.zeros(len(columns.rtt50_ms))
    for values in (columns.rtt50_ms, columns.layer_ms):
        usual = middle(values)
        if usual > 0:
            total += np.where(np.isfinite(values), values / usual - 1, 0.0)
    total += np.where(np.isfinite(columns.loss), 10 * columns.loss, 0.0)
    found: list[float] = total.tolist()
    return found


def aged(known: Figures, swarm: Swarm, now_ns: int) -> Figures:
    """Return the same figures at another moment: only the ages differ."""
    return msgspec.structs.replace(
        known, age_s=age_s(swarm.nodes["seen_ns"], now_ns), rtt_age_s=age_s(known.of_links.newest_ns, now_ns)
    )


def layer_ms(swarm: Swarm, row: int, model: str) -> float:
    """Return the decode time of one layer of `model` at batch 1, shortest context; NaN if it was not measured."""
    fitting = [t for t in swarm.facts[row].layers if t.phase == "decode" and t.model in (model, "*")]
    if not fitting:
        return float("nan")
    return min(fitting, key=lambda t: (t.batch, t.context, -t.at_ns)).ms


def _both(column: AnyArray, rows: Ints) -> AnyArray:
    """Return (len(rows), 2n): the figures of these nodes' links out, then of their links in."""
    return np.concatenate([column[rows], column[:, rows].T], axis=1)


def _median(rows: Floats) -> Floats:
    """Return the median of each row without its NaNs; NaN for empty rows. (nanmedian warns, and goes row by row.)"""
    known = np.isfinite(rows)
    count = known.sum(axis=1)
    widest = int(count.max(initial=0))
    if not widest:
        return np.full(rows.shape[0], np.nan)
    # known values only, moved to the left: most pairs of a large swarm are never measured
    packed = np.full((rows.shape[0], widest), np.inf)
    packed[np.arange(widest) < count[:, None]] = rows[known]
    low, high = np.maximum(0, (count - 1) // 2), count // 2
    places = np.flatnonzero(np.bincount(np.concatenate([low, np.minimum(high, widest - 1)])))
    packed.partition(places, axis=1) if len(places) <= FEW_MIDDLES else packed.sort(axis=1)
    at = np.arange(rows.shape[0])
    middle = (packed[at, low] + packed[at, np.minimum(high, widest - 1)]) / 2
    return np.where(count > 0, middle, np.nan)


def _mean(rows: Floats) -> Floats:
    count = np.isfinite(rows).sum(axis=1)
    return np.where(count > 0, np.nansum(rows, axis=1) / np.maximum(count, 1), np.nan)
