"""Keep the client of an engine up between runs, so that weights are loaded and servers found once.

It prints `ready`; each line on its standard input is one run, answered by `token BEGAN_NS ENDED_NS` a token, the prompt
first, and `end`.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from bench.engine_runs.runs import STEPS, WARM_UP_STEPS, Times
from swarm_lab.verification.race import RaceError
from swarm_protocol.units import NS_PER_MS


class Session:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """`process` has pipes for standard input and output; `log` is where it complains."""
        self._process, self._log = process, log

    async def ready(self, timeout_s: float) -> None:
        """Wait until it can run. Raises RaceError."""
        await self._until("ready", timeout_s)

    async def run(self, timeout_s: float) -> Times:
        """Run the prompt and all steps once. Raises RaceError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"run\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RaceError(self._last_words()) from error
        spans = [line.split()[1:] for line in await self._until("end", timeout_s) if line.startswith("token ")]
        taken = [(int(ended) - int(began)) / NS_PER_MS for began, ended in spans]
        if len(taken) != 1 + WARM_UP_STEPS + STEPS:
            raise RaceError(f"the engine's client printed {len(taken)} tokens")
        return Times(taken[0], tuple(taken[1 + WARM_UP_STEPS :]))

    async def _until(self, word: str, timeout_s: float) -> list[str]:
        try:
            return await asyncio.wait_for(asyncio.to_thread(self._read, word), timeout_s)
        except TimeoutError as error:
            self._process.kill()  # ends the thread that reads
            raise RaceError(f"the engine did not answer within {timeout_s:.0f} s: {self._last_words()}") from error

    def _read(self, word: str) -> list[str]:
        assert self._process.stdout is not None
        lines: list[str] = []
        while line := self._process.stdout.readline():
            lines.append(line.decode(errors="replace").strip())
            if lines[-1] == word:
                return lines
        raise RaceError(self._last_words())

    def _last_words(self) -> str:
        said = self._log.read_text(errors="replace").strip().splitlines()
        return f"the engine's client failed: {said[-1] if said else 'no word from it'}"
