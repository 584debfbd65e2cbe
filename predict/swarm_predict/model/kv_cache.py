"""Compute the size of a layer's KV cache: what it keeps for each token of the context, and what one step reads of it.

Sizes are for 16 bits an element; `kv_cache_formats` shrinks them. `ModelShape` adds up the layers of a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

CACHE_BYTES: Final = 2  # of one cached element: fp16 or bf16, the default of every engine here


class Cache(msgspec.Struct, frozen=True):
    """The bytes that one layer stores for each token of the context, and how much of it a step reads."""

    elements: float  # of one entry
    window: int = 0  # entries kept at most; 0: all
    every: int = 1  # tokens that share one entry (compressed attention)
    top_k: int = 0  # entries that a step reads at most; 0: all that are kept
    flops: float = 0.0  # of one entry that is read: scores and weighted values

    def kept(self, tokens: float) -> float:
        entries = tokens / self.every
        return min(entries, self.window) if self.window else entries

    def read(self, tokens: float) -> float:
        entries = self.kept(tokens)
        return min(entries, self.top_k) if self.top_k else entries


def bytes_per_token(caches: Iterable[Cache]) -> float:
    """Return what one more token of context adds."""
    return CACHE_BYTES * sum(cache.elements / cache.every for cache in caches)


def kept_bytes(caches: Iterable[Cache], tokens: float) -> float:
    """Return the caches of one sequence of `tokens`."""
    return CACHE_BYTES * sum(cache.elements * cache.kept(tokens) for cache in caches)


def read_bytes(caches: Iterable[Cache], tokens: float) -> float:
    """Return what one decode step reads with `tokens` in the caches."""
    return CACHE_BYTES * sum(cache.elements * cache.read(tokens) for cache in caches)
