"""Measure one streamed completion, event by event: first token, time per token, spread. Times are passed in.

    first token   from the request to the first event that holds text (a role alone is none)
    per token     (last text − first text) / (tokens − 1): what predictions call TPOT
    spread        of the gaps between events, and only where every event held one token: an engine that packs several
                  into one event hides the rest

The number of tokens is the engine's own `usage`, or the limit that it stopped at; without either, events with text are
counted (bytes of a character that is not whole have none) and the observation says so. Shapes: OpenAI's
chat.completion.chunk and text_completion, as llama.cpp's server, vLLM, Parallax, exo, Together, Fireworks and Hugging
Face stream them; reasoning (`reasoning_content`, `reasoning`) is text too.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from typing import Any, Final

from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_MS
from swarmtop.watch.acceptance import Acceptance, by_mean
from swarmtop.watch.sse import StreamError

DONE: Final = "[DONE]"
SHARED: Final = 1.5  # requests in flight, in the mean
AT_ONCE_NS: Final = 100_000  # a token: no engine gives one stream 10,000 a second, but a proxy that held them back does
_TEXTS: Final = ("content", "reasoning_content", "reasoning")


@dataclass(frozen=True, slots=True)
class Observation:
    """One request, or the mean of several. None: this stream does not report it."""

    ttft_ms: float | None
    tokens: int  # of the answer
    counted: bool  # exactly: by `usage`, or it stopped at the limit; False: events with text were counted
    prompt_tokens: int | None
    tpot_ms: float | None  # mean; None: fewer than two tokens, or all of them came at once
    tpot_p50_ms: float | None  # of the gaps between events that hold one token each
    tpot_p95_ms: float | None
    finished: bool  # the engine said so; False: the connection ended first
    answers: int | None = 1  # that this is the mean of; None: not known, and `tokens` counts all of them
    in_flight: float | None = None  # requests that shared the engine; None: not known
    acceptance: Acceptance | None = None  # of guesses; None: nothing was guessed, or the engine does not say
    cached_tokens: int | None = None  # of the prompt, had from an earlier request; None: it does not say
    before_ms: float | None = None  # of `ttft_ms`, until the engine began with the prompt; None: it does not say

    @property
    def shared(self) -> bool:
        """Return whether other requests were in the engine: the time per token is then of several streams."""
        return self.in_flight is not None and self.in_flight >= SHARED

    @property
    def at_once(self) -> bool:
        """Return whether the tokens came in one piece: `ttft_ms` is then the time of the whole answer."""
        return self.tokens > 1 and self.tpot_ms is None and self.ttft_ms is not None

    @property
    def tokens_per_s(self) -> float | None:
        """Return the rate of the answer without the wait for its first token."""
        return None if self.tpot_ms is None or self.tpot_ms <= 0 else 1e3 / self.tpot_ms


class Completion:
    """Collects one answer that was asked for at `asked_ns` (any steady clock)."""

    def __init__(self, asked_ns: int, max_tokens: int) -> None:
        self._asked_ns = asked_ns
        self._max_tokens = max_tokens
        self._text_ns: list[int] = []
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}  # llama-server's
        self._reason: str | None = None  # why the engine ended it
        self._done = False

    @property
    def done(self) -> bool:
        """Nothing more will come; `usage` may still follow the end of the text."""
        return self._done

    def event(self, data: str, at_ns: int) -> None:
        """Raises StreamError for an error that the engine streams, and for what is no event of a completion."""
        if data.strip() == DONE:
            self._done = True
            return
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise StreamError(f"an event of this stream is not JSON ({safe(data, 60)!r})") from error
        if not isinstance(chunk, dict):
            raise StreamError(f"an event of this stream is no completion ({safe(data, 60)!r})")
        if chunk.get("error"):
            raise StreamError(f"the engine says: {safe(_message(chunk['error']), 200)}")
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        if isinstance(chunk.get("timings"), dict):
            self._timings = chunk["timings"]
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if isinstance(choice, dict):
            if _has_text(choice):
                self._text_ns.append(at_ns)
            if isinstance(choice.get("finish_reason"), str):
                self._reason = choice["finish_reason"]

    def observation(self) -> Observation:
        """Raises StreamError if no text came."""
        count = _count(self._usage.get("completion_tokens"))
        if count is None and self._reason == "length":
            count = self._max_tokens
        found = observed(
            self._asked_ns,
            self._text_ns,
            tokens=count,
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            finished=self._done or self._reason is not None,
        )
        found = replace(found, cached_tokens=self._cached(), before_ms=self._before_ms(found.ttft_ms))
        keys = ("predicted_n", "draft_n", "draft_n_accepted")
        tokens, drafted, accepted = (_count(self._timings.get(key)) for key in keys)
        if tokens is None or drafted is None or accepted is None:
            return found
        return replace(found, acceptance=by_mean(tokens, drafted, accepted))

    def _cached(self) -> int | None:
        """Return OpenAI's `prompt_tokens_details.cached_tokens`, else llama-server's `cache_n`."""
        details = self._usage.get("prompt_tokens_details")
        cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
        return cached if cached is not None else _count(self._timings.get("cache_n"))

    def _before_ms(self, ttft_ms: float | None) -> float | None:
        """llama-server times a prompt from the moment when it begins with it to its first token."""
        prompt_ms = self._timings.get("prompt_ms")
        if ttft_ms is None or not isinstance(prompt_ms, int | float) or not 0 < prompt_ms <= ttft_ms:
            return None
        return ttft_ms - prompt_ms


def observed(
    asked_ns: int, text_ns: list[int], *, tokens: int | None, prompt_tokens: int | None = None, finished: bool
) -> Observation:
    """Return the observation from the moments at which text came. `tokens` None: not counted. Raises StreamError if no
    text came."""
    if not text_ns:
        raise StreamError("the engine answered without a single token; correct --max-tokens or --text")
    counted = tokens is not None and tokens >= 1
    count = tokens if tokens is not None and tokens >= 1 else len(text_ns)
    gaps = [later - earlier for earlier, later in itertools.pairwise(text_ns)]
    span_ns = text_ns[-1] - text_ns[0]
    streamed = count > 1 and span_ns >= AT_ONCE_NS * (count - 1)
    each_alone = streamed and count == len(text_ns)
    return Observation(
        ttft_ms=(text_ns[0] - asked_ns) / NS_PER_MS,
        tokens=count,
        counted=counted,
        prompt_tokens=prompt_tokens,
        tpot_ms=span_ns / NS_PER_MS / (count - 1) if streamed else None,
        tpot_p50_ms=_rank(gaps, 50) / NS_PER_MS if each_alone else None,
        tpot_p95_ms=_rank(gaps, 95) / NS_PER_MS if each_alone else None,
        finished=finished,
    )


def _has_text(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    texts = [delta.get(key) for key in _TEXTS] if isinstance(delta, dict) else []
    return any(isinstance(text, str) and text for text in (*texts, choice.get("text")))


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def _rank(values: list[int], percent: int) -> int:
    """Nearest rank (RFC 2330 §11.3)."""
    return sorted(values)[max(0, -(-percent * len(values) // 100) - 1)]
