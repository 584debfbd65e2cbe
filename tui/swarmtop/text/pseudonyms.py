"""Samples that can be published: names become pseudonyms, words that people typed are left out, figures stay.

One name is one pseudonym through all files of one export, and another one in the next: the key is thrown away. That
hides who a node is from those who do not know its figures; who knows a machine's GPU or its round trips may recognise
it, so `docs/threat-model.md` says what this is not.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import secrets
from collections.abc import AsyncIterator
from typing import Final

NAMES: Final = frozenset({"node", "src", "dst", "endpoint"})
WORDS: Final = frozenset({"detail", "label", "placement"})  # hold names, or what somebody wrote


class Pseudonyms:
    """Rewrites the pieces of one CSV after the other; each piece is whole lines."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)

    def of(self, name: str) -> str:
        return f"node-{hmac.digest(self._key, name.encode(), hashlib.sha256).hex()[:8]}" if name else ""

    async def rewrite(self, pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        columns: list[str] | None = None
        async for piece in pieces:
            out = io.StringIO()
            writer = csv.writer(out, lineterminator="\n")
            for row in csv.reader(io.StringIO(piece)):
                if columns is None:
                    columns = row
                    writer.writerow(row)
                else:
                    writer.writerow([self._cell(name, cell) for name, cell in zip(columns, row, strict=True)])
            yield out.getvalue()

    def _cell(self, column: str, cell: str) -> str:
        if column in NAMES:
            return self.of(cell)
        return "" if column in WORDS else cell
