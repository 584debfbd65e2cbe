"""A process that writes to a store without a pause, to be killed; and what is in the file afterwards."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from sample_fixtures import A

from swarm_storage.store import open_store

WAIT_S = 60.0

# Writes batch after batch, prints the number of each that was acknowledged. A batch that is refused is sent again, as
# the collector's probes do. Connections come and go in threads of their own, as charts and exports do.
WRITER = """
import sys, threading, time
from sample_fixtures import *
from swarm_storage.store import open_store

store = open_store(sys.argv[1])
writer = store.writer(retain_ns=None)

def read():
    while True:
        thread = threading.Thread(target=lambda: store.reader.committed_seq(A, 7))
        thread.start()
        thread.join()
        time.sleep(0.01)

threading.Thread(target=read, daemon=True).start()
seq = 1
while True:
    try:
        acknowledged = writer.submit(batch(seq, [link(T0 + seq * 1000 + i) for i in range(50)])).result(30)
    except Exception as error:
        print("refused", error, flush=True)
        time.sleep(0.05)
        continue
    print(acknowledged, flush=True)
    seq += 1
"""


class Writing:
    """The process that writes, and what it has acknowledged."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
        )
        self.acknowledged = 0
        self.refused: list[str] = []
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                if line.startswith("refused"):
                    self.refused.append(line.strip())
                else:
                    self.acknowledged = int(line)
                self._more.notify_all()

    def wait_for(self, seq: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: self.acknowledged >= seq, WAIT_S), self.refused[-3:]

    def kill(self) -> int:
        """What was acknowledged before."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)
        self._thread.join(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.acknowledged


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Writing]:
    made = Writing(path)
    try:
        made.wait_for(5)
        yield made
    finally:
        if made.process.poll() is None:
            made.kill()


def held(path: Path) -> int:
    """How far the file goes, opened as after a crash; every batch up to there is whole."""
    store = open_store(str(path))
    with contextlib.closing(store):
        seq = store.reader.committed_seq(A, 7)
        assert len(list(store.reader.samples(kinds=("link",)))) == 50 * seq
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return seq
