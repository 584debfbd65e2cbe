"""Define the capacity of a placement: the time of a pass by the number of sequences in it, and how many sequences fit.

Pure data, made from a placement by `build`; `queueing.continuous_batching` puts load on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from swarm_predict.serving.cycle_time import Pass
from swarm_protocol.snapshot.swarm import Floats

MAX_PARTS: Final = 0.95  # of the passes that compute a part of a prompt
WAIT_CLOSE: Final = 1e-4  # relative


@dataclass(frozen=True, slots=True)
class Station:
    """What one micro-batch occupies at a time: a machine, or an uplink or downlink."""

    node: str
    kind: Literal["machine", "uplink", "downlink"]
    in_way: bool = True  # False: a wire faster than the one at its other end; it is busy, but nobody waits for it alone
    members: tuple[str, ...] = ()  # of a group that computes layers together; empty: the node alone

    @property
    def name(self) -> str:
        return self.node if self.kind == "machine" else f"{self.node}'s {self.kind}"


@dataclass(frozen=True, slots=True)
class Loop:
    """Another route's micro-batches at a station that is shared, with the requests that it has on average."""

    in_flight: float
    service_ms: float  # of a visit there
    way_ms: float  # of a pass, without waiting for this route
    cycle_ms: float  # with nobody else


@dataclass(frozen=True, slots=True)
class Others:
    """What the visits of other routes do to this one, at each station."""

    busy: Floats  # (stations,) share of the time that is theirs
    wait_ms: Floats  # (stations,) that a visit waits for one of theirs to end
    loops: tuple[tuple[Loop, ...], ...]  # (stations,) of a tuple for each route


@dataclass(frozen=True, slots=True)
class Prompts:
    """Parts of prompts, one in a pass. Lengths are equally likely; a prompt goes in equal parts."""

    tokens: Floats  # (lengths,) of the whole prompt
    passes: Floats  # (lengths,) parts of it
    station_ms: Floats  # (lengths, stations) of one part

    @property
    def mean_passes(self) -> float:
        return float(self.passes.mean())

    @property
    def weights(self) -> Floats:
        """Return (lengths,): the share of all chunks that belong to prompts of that length."""
        return np.asarray(self.passes / self.passes.sum())

    def mean_ms(self) -> Floats:
        """Return (stations,): the mean over all parts."""
        return np.asarray(self.weights @ self.station_ms)


@dataclass(frozen=True, slots=True)
class Route:
    """One placement, for requests whose lengths are known as distributions."""

    stations: tuple[Station, ...]
    between_ms: float  # propagation and software of a pass, which no station is busy with
    sizes: Floats  # (sizes,) sequences that decode in one pass, ascending from 0
    decode_ms: Floats  # (sizes, stations) of such a pass; 0 for none
    prompts: Prompts
    decode_passes: float  # of a request, on average: its tokens but the first
    passes_scv: float  # squared coefficient of variation of all passes of a request
    most_sequences: int  # at once
    micro_batches: int  # in flight at most
    limit: str = ""  # the machine whose memory allows no more; empty: an option or the engine
    tokens_a_pass: float = 1.0  # of a sequence that decodes: more where passes verify guesses
    windows: int = 1  # of a sequence in each cycle, in different micro-batches
    others: Others | None = None  # routes that share stations with this one
    notes: tuple[str, ...] = ()

    @property
    def passes(self) -> float:
        """Return all passes of a request, on average."""
        return self.prompts.mean_passes + self.decode_passes

    @property
    def prompt_share(self) -> float:
        """Return the share of a sequence's passes that compute its prompt."""
        return self.prompts.mean_passes / self.passes

    @property
    def tokens(self) -> float:
        """Return the tokens that a request generates, on average."""
        return self.decode_passes * self.tokens_a_pass + 1

    @property
    def useful_sequences(self) -> int:
        """Return how many sequences are worth having: a pass computes a part of one prompt at most, so that with more
        of them prompts would wait for prompts."""
        return max(1, min(self.most_sequences, int(MAX_PARTS * self.micro_batches / self.prompt_share)))

    def in_flight(self, sequences: float) -> int:
        return max(1, min(int(sequences * self.windows), self.micro_batches))

    def loaded(self, sequences: float) -> Pass:
        """Return the mean pass with so many sequences, spread evenly over the micro-batches."""
        each, share = sequences / self.in_flight(sequences), self.prompt_share
        decoding = self.decode_at(each * (1 - share) * self.windows)
        in_way = np.array([station.in_way for station in self.stations])
        longer = self.prompts.station_ms[:, in_way].sum(axis=1)
        order = np.argsort(longer)
        station, way = decoding + each * share * self.prompts.mean_ms(), self.between_ms + float(decoding[in_way].sum())
        parts, chance = min(1.0, each * share), self.prompts.weights[order]
        alone, least, left = way + parts * float(chance @ longer[order]), 0.0, np.ones(len(decoding))
        if self.others is not None:
            mine = [Loop(self.in_flight(sequences), float(ms), way, alone) for ms in station]
            waits = [shared_wait_ms((own, *theirs)) for own, theirs in zip(mine, self.others.loops, strict=True)]
            least, left = way + max(waits), 1 - self.others.busy
            way += float(self.others.wait_ms[in_way].sum())
        return Pass(
            station_ms=station,
            token_ms=decoding,
            left=left,
            way_ms=way,
            least_ms=least,
            parts=parts,
            part_ms=longer[order],
            part_chance=chance,
        )

    def token_ms(self, sequences: float) -> Floats:
        """Return (stations,): what one more decoding sequence adds to a pass."""
        decoding = sequences * self.windows / self.in_flight(sequences) * (1 - self.prompt_share)
        k = int(np.clip(np.searchsorted(self.sizes, decoding), 1, len(self.sizes) - 1))
        return np.asarray((self.decode_ms[k] - self.decode_ms[k - 1]) / (self.sizes[k] - self.sizes[k - 1]))

    def decode_at(self, decoding: float | Floats) -> Floats:
        """Return (…, stations) at sizes between given ones; beyond the last, in a line through the last two."""
        k = np.minimum(np.maximum(np.searchsorted(self.sizes, decoding), 1), len(self.sizes) - 1)
        decoding, low, high = (np.asarray(each)[..., None] for each in (decoding, self.sizes[k - 1], self.sizes[k]))
        before, after = self.decode_ms[k - 1], self.decode_ms[k]
        return np.asarray(before + (after - before) * (decoding - low) / (high - low))


def shared_wait_ms(loops: Sequence[Loop]) -> float:
    """Return the wait of every visit at a station that loops ask for more than all of its time; 0 if they do not.

    Visits are served in order, whosever they are, so that all wait alike, as long as the station is always busy:
    Σ in flight · service / (way + wait) = 1."""
    if len(loops) == 1:
        return 0.0

    def asked(wait_ms: float) -> float:
        return sum(each.in_flight * each.service_ms / max(each.cycle_ms, each.way_ms + wait_ms) for each in loops)

    low, high = 0.0, sum(each.in_flight * each.service_ms for each in loops)
    if asked(0.0) <= 1:
        return 0.0
    while high - low > WAIT_CLOSE * high:
        middle = (low + high) / 2
        low, high = (middle, high) if asked(middle) > 1 else (low, middle)
    return high
