"""Compute how often a message waits for TCP's congestion window on a path that loses packets.

A loss does not only delay its own packet: loss-based congestion control keeps a share of the window (reno a half, RFC
5681 §3.1; cubic 0.7, RFC 9438 §4.6), and then grows it by a fixed number of segments for each window that is
acknowledged (reno by 1, cubic by 8/15 in its Reno-friendly region, RFC 9438 §4.3, which is where windows of activations
are: the cubic curve is slower up to some hundred segments). Later messages that exceed the window pay a round trip for
each window they wait for. BBR keeps its rate over such losses (`bbr_pacing`).

The window depends on what the connection carries, and has no closed form: it grows only while messages fill it (RFC
7661; Linux, tcp_is_cwnd_limited), in slow start to twice what was sent; after a rest it is halved for each timeout,
while the slow start threshold stays (tcp_cwnd_restart), so that reno does not find a lost window again where every
message follows a rest; cubic's curve does not restart, and leads back to where it was. So connections are simulated
flight by flight, as a Markov chain of window and threshold: a message of N segments, the next one after its rest, loss
by loss. One run serves all links with such messages; what lies between its loss rates is interpolated.

Held against Linux in namespaces: `python -m bench loss_window`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats, Ints
from swarm_protocol.units import BITS_PER_BYTE

SEGMENT_BYTES: Final = 1448  # Ethernet, IPv4 and TCP with timestamps, as Linux has them
INITIAL_SEGMENTS: Final = 10  # RFC 6928
MIN_SEGMENTS: Final = 2  # that a loss leaves
MAX_HALVINGS: Final = 12  # from any window to the initial one
MIN_LOSS: Final = 1e-4  # one way; below it what a loss does is proportional to its chance
DOUBLINGS: Final = 8  # of the loss rate from there; above, windows shrink with the root of it
MAX_LOSS: Final = MIN_LOSS * 2**DOUBLINGS
MAX_SEGMENTS: Final = 256  # simulated; more take proportionally more windows
CONNECTIONS: Final = 96  # simulated at each loss rate
MESSAGES, MIN_MESSAGES = 64, 24  # of each connection; large ones meet as many losses in fewer
SEGMENTS_IN_ALL: Final = 2048
MATHIS: Final = 1.22  # segments of the mean window, times the root of the loss rate: CCR 27(3), 1997
WARM: Final = 6  # messages that open the window, without losses
LIFETIME: Final = 500  # messages of a connection: a long answer. Until it meets its first loss it waits for nothing
THRESHOLD_NONE: Final = 1e9
_SEED: Final = 5681


@dataclass(frozen=True, slots=True)
class Control:
    """A loss-based congestion control."""

    keeps: float  # share of the window after a loss
    grows: float  # segments for each acknowledged window
    catches_up: float  # segments at most for each acknowledged one, to where it would be had it not rested; 0: never


RENO: Final = Control(0.5, 1.0, 0.0)
CUBIC: Final = Control(0.7, 8 / 15, 0.5)


def rates() -> Floats:
    """The loss rates, one way, that are simulated."""
    return np.concatenate([[0.0], MIN_LOSS * 2.0 ** np.arange(DOUBLINGS + 1)])


def segments_of(sizes: Floats) -> Ints:
    return np.maximum(1, np.ceil(sizes / SEGMENT_BYTES)).astype(np.int64)


def mean_flights(segments: int, halvings: int, loss: Floats, control: Control = CUBIC) -> Floats:
    """Return the mean number of windows that a message waits for, at `loss` of a packet, one way."""
    waits = waited(segments, halvings, control).mean(axis=1)
    at, above = _between(loss)
    return _beyond(waits[at] + above * (waits[at + 1] - waits[at]), loss, segments)


def draw_flights(
    segments: int, halvings: int, loss: Floats, rng: np.random.Generator, control: Control = CUBIC
) -> Floats:
    """Draw the windows that a message waits for, of the shape of `loss`: whole ones, and with the same random numbers
    no fewer at a higher rate."""
    waits = waited(segments, halvings, control)
    at, above = _between(loss)
    at = at + (rng.random(loss.shape) < above)
    found = _beyond(waits[at, rng.integers(0, waits.shape[1], loss.shape)], loss, segments)
    return np.asarray(np.floor(found + rng.random(loss.shape)))


def flights_ms(flights: Floats, sizes: Floats, rtt_ms: Floats, rate_mbps: Floats) -> Floats:
    """Return the delay of so many windows of a message: a round trip each, less the time that the window took to send.
    The bytes are spread evenly over the windows; an unknown rate counts as an idle line."""
    per_byte = np.where(np.isfinite(rate_mbps), BITS_PER_BYTE / (np.fmax(rate_mbps, 1e-9) * 1e3), 0.0)
    waits = np.fmax(np.nan_to_num(rtt_ms - sizes / (flights + 1) * per_byte, nan=0.0), 0.0)
    return np.asarray(flights * waits)


def _between(loss: Floats) -> tuple[Ints, Floats]:
    """Return (the simulated rate below each, how far it is to the next)."""
    steps = np.log2(np.clip(loss, MIN_LOSS, MAX_LOSS) / MIN_LOSS) + 1
    steps = np.where(loss < MIN_LOSS, loss / MIN_LOSS, steps)
    at = np.minimum(steps.astype(np.int64), DOUBLINGS)
    return at, steps - at


def _beyond(flights: Floats, loss: Floats, segments: int) -> Floats:
    """Return the windows at rates above those simulated, where windows shrink with the root of the rate, but not below
    the least: a message that fits it waits for none."""
    most = np.maximum(flights, -(-segments // MIN_SEGMENTS) - 1)
    return np.asarray(np.minimum((flights + 1) * np.sqrt(np.maximum(loss / MAX_LOSS, 1.0)) - 1, most))


def waited(segments: int, halvings: int, control: Control = CUBIC) -> Floats:
    """Return (loss rates, messages): the windows that each message of a connection waits for, each having rested for
    `halvings` timeouts."""
    simulated = _waited(min(segments, MAX_SEGMENTS), min(halvings, MAX_HALVINGS), control)
    return simulated * max(1.0, segments / MAX_SEGMENTS)


@lru_cache(maxsize=256)
def _waited(segments: int, halvings: int, control: Control) -> Floats:
    rng = np.random.default_rng(_SEED)
    arrives = np.log1p(-rates())[:, None]
    shape = (len(arrives), CONNECTIONS)
    window, threshold = np.full(shape, float(INITIAL_SEGMENTS)), np.full(shape, THRESHOLD_NONE)
    unrested = np.zeros(shape)  # the window had the connection not rested: cubic's estimate goes on from loss to loss
    found = []
    for message in range(WARM + max(MIN_MESSAGES, min(MESSAGES, SEGMENTS_IN_ALL // segments))):
        warm = message < WARM
        if message == WARM:  # the first losses, down to the window that lasts (Mathis et al.)
            usual = np.floor(MATHIS / np.sqrt(rates()[1:]))[:, None]
            kept = np.minimum(np.floor(control.keeps * window[1:]), usual)
            window[1:] = threshold[1:] = unrested[1:] = np.maximum(MIN_SEGMENTS, kept)
        if halvings and not warm:
            threshold = np.maximum(threshold, np.floor(0.75 * window))
            window = np.maximum(np.floor(window / 2**halvings), np.minimum(INITIAL_SEGMENTS, window))
        left, flights = np.full(shape, float(segments)), np.zeros(shape)
        filled, mending = np.zeros(shape, bool), np.zeros(shape, bool)
        while np.any(left > 0):
            sent = np.minimum(np.floor(window), left)
            filled |= sent >= np.floor(window)
            grows = filled & ~mending  # recovery ends with the acknowledgement of what was sent again
            # the same random numbers at all rates, so that they differ by the rate alone
            lost = (rng.random(CONNECTIONS) < -np.expm1(sent * arrives)) & (not warm)
            doubled = np.where(filled, window + sent, np.maximum(window, np.minimum(window + sent, 2 * sent)))
            slow = window < threshold
            share = sent / window  # of a window that is acknowledged
            unrested = np.where(slow | ~grows, unrested, np.maximum(unrested, window) + control.grows * share)
            steps = control.grows * share
            if control.catches_up:
                steps = sent * np.clip(unrested / window - 1, 0.0, control.catches_up)
            grown = np.where(slow, np.minimum(doubled, threshold), window + grows * steps)
            kept = np.maximum(MIN_SEGMENTS, np.floor(control.keeps * window))
            threshold = np.where(lost, kept, threshold)
            unrested = np.where(lost, kept, unrested)
            window, mending = np.where(lost, kept, grown), lost
            more = left > sent  # of the last flight, retransmissions are counted by `lost_packets`
            flights += more
            left = np.where(more, left - sent + lost, 0.0)
        if not warm:
            found.append(flights)
    waits = np.concatenate(found, axis=1)
    waits = np.where(rng.random(waits.shape[1]) < _unharmed(segments)[:, None], waits[:1], waits)
    # in order of length, so that a draw waits no less at a higher rate
    return np.maximum.accumulate(np.sort(waits, axis=1), axis=0)


def _unharmed(segments: int) -> Floats:
    """The share of a connection's messages that come before its first loss, at each rate."""
    harmed = -np.expm1(segments * np.log1p(-rates()))  # of the messages
    with np.errstate(invalid="ignore"):
        share = -np.expm1(LIFETIME * np.log1p(-harmed)) / (LIFETIME * harmed)
    return np.where(harmed > 0, share, 1.0)
