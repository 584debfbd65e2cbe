"""Choose where engines are built and kept between runs: $SWARMTOP_BENCH_CACHE, else ~/.cache/swarmtop-bench."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.engine_runs.runs import EngineUnavailable

BUILD_TIMEOUT_S: Final = 7200.0


def folder() -> Path:
    """Return the cache, made where it is missing."""
    given = os.environ.get("SWARMTOP_BENCH_CACHE")
    path = Path(given) if given else Path.home() / ".cache" / "swarmtop-bench"
    path.mkdir(parents=True, exist_ok=True)
    return path


def step(words: Sequence[str | Path], log: Path, variables: Mapping[str, str] | None = None) -> None:
    """Run one step of an installation. Raises EngineUnavailable with the last line that it said."""
    with log.open("ab") as file:
        try:
            done = subprocess.run(
                [str(word) for word in words], stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False,
                timeout=BUILD_TIMEOUT_S, env={**os.environ, **(variables or {})},
            )  # fmt: skip
        except OSError as error:
            raise EngineUnavailable(f"{words[0]} cannot be run ({error.strerror})") from error
        except subprocess.TimeoutExpired as error:
            raise EngineUnavailable(f"{words[0]} did not end within {BUILD_TIMEOUT_S:.0f} s; see {log}") from error
    if done.returncode != 0:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise EngineUnavailable(f"{lines[-1] if lines else words[0]}; see {log}")
