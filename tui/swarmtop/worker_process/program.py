"""The worker process: call the functions that `process` names, one at a time, until the dashboard ends.

`python -m swarmtop.worker_process.program`

Questions come on stdin, answers go to stdout. When the dashboard is gone, even by kill -9, stdin ends and so does this
process, in the middle of a search too. Works on every POSIX system, unlike prctl.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import threading
import traceback
from typing import BinaryIO, cast

from swarm_collector.process.memory import hand_back
from swarmtop.worker_process import messages


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the dashboard, which ends this process
    questions, answers = _own_pipes()
    waiting: queue.SimpleQueue[list[bytearray]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(questions, waiting), name="questions", daemon=True).start()
    while True:
        outcome: tuple[object, Exception | None]
        try:
            function, arguments = messages.decode(waiting.get())
            outcome = function(*arguments), None
            del function, arguments
        except Exception as error:  # noqa: BLE001 shown and logged by the dashboard
            outcome = None, portable(error)
        messages.write(answers, outcome)
        del outcome
        hand_back()


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and stdout, and put the null device in their place: nothing that is printed mixes with answers."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return cast("BinaryIO", questions), cast("BinaryIO", answers)


def _receive(questions: BinaryIO, waiting: queue.SimpleQueue[list[bytearray]]) -> None:
    try:
        while True:
            waiting.put(messages.read(questions))
    except (EOFError, OSError):
        os._exit(0)


def portable(error: Exception) -> Exception:
    """Return the error with its traceback as a note; one that pickle cannot carry as its text."""
    text = "".join(traceback.format_exception(error))
    try:
        again: Exception = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 whatever its own class does
        again = RuntimeError(f"{type(error).__name__}: {error}")
    again.add_note(text)
    return again


if __name__ == "__main__":
    main()
