"""What a placement offers to many users: the time of a pass by the number of sequences in it, and how many fit.

Pure data, made of a placement by `curves`; `load` puts users on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from swarm_predict.serving.cycle import Pass
from swarm_protocol.snapshot.swarm import Floats

MOST_PARTS: Final = 0.95  # of the passes that compute a part of a prompt


@dataclass(frozen=True, slots=True)
class Station:
    """What one micro-batch occupies at a time: a machine, or an uplink or downlink."""

    node: str
    kind: Literal["machine", "uplink", "downlink"]
    in_way: bool = True  # False: a wire faster than the one at its other end; it is busy, but nobody waits for it alone

    @property
    def name(self) -> str:
        return self.node if self.kind == "machine" else f"{self.node}'s {self.kind}"


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
        """Return (lengths,): the share of all parts that are of prompts of that length."""
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
        return self.decode_passes + 1

    @property
    def useful_sequences(self) -> int:
        """Return how many sequences are worth having: a pass computes a part of one prompt at most, so that with more
        of them prompts would wait for prompts."""
        return max(1, min(self.most_sequences, int(MOST_PARTS * self.micro_batches / self.prompt_share)))

    def in_flight(self, sequences: float) -> int:
        return max(1, min(int(sequences), self.micro_batches))

    def loaded(self, sequences: float) -> Pass:
        """Return the mean pass with so many sequences, spread evenly over the micro-batches."""
        each, share = sequences / self.in_flight(sequences), self.prompt_share
        decoding = self._decode(each * (1 - share))
        in_way = np.array([station.in_way for station in self.stations])
        longer = self.prompts.station_ms[:, in_way].sum(axis=1)
        order = np.argsort(longer)
        return Pass(
            station_ms=decoding + each * share * self.prompts.mean_ms(),
            token_ms=decoding,
            way_ms=self.between_ms + float(decoding[in_way].sum()),
            parts=min(1.0, each * share),
            part_ms=longer[order],
            part_chance=self.prompts.weights[order],
        )

    def token_ms(self, sequences: float) -> Floats:
        """Return (stations,): what one more decoding sequence adds to a pass."""
        decoding = sequences / self.in_flight(sequences) * (1 - self.prompt_share)
        k = int(np.clip(np.searchsorted(self.sizes, decoding), 1, len(self.sizes) - 1))
        return np.asarray((self.decode_ms[k] - self.decode_ms[k - 1]) / (self.sizes[k] - self.sizes[k - 1]))

    def _decode(self, decoding: float) -> Floats:
        """Return (stations,) at a size between given ones; beyond the last, in a line through the last two."""
        k = int(np.clip(np.searchsorted(self.sizes, decoding), 1, len(self.sizes) - 1))
        low, high = self.sizes[k - 1], self.sizes[k]
        before, after = self.decode_ms[k - 1], self.decode_ms[k]
        return np.asarray(before + (after - before) * (decoding - low) / (high - low))
