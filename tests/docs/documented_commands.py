"""The commands that documentation shows: every line of a ```sh block, with the comment after it left out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/engines/*.md", "*/README.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)


@dataclass(frozen=True, slots=True)
class Shown:
    page: str
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.text}"


def shown() -> Iterator[Shown]:
    for path in PAGES:
        inside, held, began = False, "", 0
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if line.startswith("```"):
                inside = line.strip() == "```sh"
                continue
            if not inside or not line.strip() or line.lstrip().startswith("#"):
                continue
            began = began if held else number
            held += line.strip().removesuffix("\\")
            if line.rstrip().endswith("\\"):
                continue
            yield Shown(str(path.relative_to(ROOT)), began, held)
            held = ""
