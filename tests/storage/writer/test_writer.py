"""Whatever ends the writer's thread: callers are told, nothing is accepted meanwhile, and another can continue."""

from __future__ import annotations

import ctypes
import threading
import time
from concurrent.futures import wait
from pathlib import Path

import pytest
from sample_fixtures import T0, A, batch, event

from swarm_storage.errors import Stalled, StoreError, WriterDied
from swarm_storage.store import open_store
from swarm_storage.store_base import Store
from swarm_storage.writer import writer as writer_module
from swarm_storage.writer.transaction import Transaction
from swarm_storage.writer.writer import Writer


@pytest.fixture
def store(tmp_path: Path):
    opened = open_store(str(tmp_path / "swarm.db"))
    yield opened
    opened.close()


def kill(writer: Writer, error: type[BaseException]) -> None:
    """As a debugger would: raised in the thread wherever it is."""
    ident = writer._thread.ident
    assert ident is not None
    while writer.alive:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(error))
        with writer._wake:
            writer._wake.notify()
        writer._thread.join(0.05)


@pytest.mark.parametrize("error", [SystemExit, MemoryError, KeyboardInterrupt])
def test_a_dead_thread_takes_nothing_until_it_is_restarted(error: type[BaseException], store: Store):
    writer = store.writer()
    assert writer.submit(batch(1, [event()])).result(20) == 1
    kill(writer, error)
    assert isinstance(writer.condition, WriterDied)
    with pytest.raises(WriterDied, match=r"the thread that writes .*swarm\.db ended"):
        writer.submit(batch(2, [event(T0 + 2)]))
    assert writer.restart()
    assert not writer.restart()
    assert writer.condition is None
    assert writer.submit(batch(2, [event(T0 + 2)])).result(20) == 2
    assert store.reader.committed_seq(A, 7) == 2


def test_what_a_dying_thread_had_in_hand_is_given_back(store: Store, monkeypatch: pytest.MonkeyPatch):
    entered, go_on = threading.Event(), threading.Event()

    def dies(_: Transaction) -> None:
        entered.set()
        assert go_on.wait(20)
        raise SystemExit

    writer = store.writer()
    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "flush", dies)
        first = writer.submit(batch(1, [event()]))
        assert entered.wait(20)
        second = writer.submit(batch(2, [event(T0 + 2)]))
        go_on.set()
        outcomes = [future.exception(20) for future in (first, second)]
    assert [type(each) for each in outcomes] == [WriterDied, WriterDied]
    writer._thread.join(20)
    assert writer.restart()
    with pytest.raises(StoreError, match="send 1 first"):
        writer.submit(batch(2, [event(T0 + 2)]))
    assert writer.submit(batch(1, [event()])).result(20) == 1


def test_one_who_cannot_be_told_does_not_keep_others_from_hearing(store: Store):
    writer = store.writer()
    answers: list[object] = []

    def broken(_: object) -> None:
        raise RuntimeError("nobody there")

    with writer._wake:  # both into one commit
        writer.offer(batch(1, [event()]), broken)
        writer.offer(batch(2, [event(T0 + 2)]), answers.append)
    writer._thread.join(20)
    assert isinstance(answers[0], WriterDied)
    assert writer.restart()


def test_closing_after_the_thread_has_died_ends_and_says_so(store: Store):
    writer = store.writer()
    writer.submit(batch(1, [event()])).result(20)
    kill(writer, SystemExit)
    assert writer.close() == []


def test_a_commit_that_does_not_end_is_reported(store: Store, monkeypatch: pytest.MonkeyPatch):
    entered, go_on = threading.Event(), threading.Event()
    flush = Transaction.flush

    def hangs(transaction: Transaction) -> None:
        entered.set()
        assert go_on.wait(20)
        flush(transaction)

    monkeypatch.setattr(Transaction, "flush", hangs)
    writer = store.writer()
    waits = writer.submit(batch(1, [event()]))
    assert entered.wait(20)
    assert writer.condition is None
    monkeypatch.setattr(writer_module, "STALLED_S", 0.0)
    assert isinstance(writer.condition, Stalled)
    go_on.set()
    assert waits.result(20) == 1


@pytest.fixture
def waits_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute before each commit, for batches that could go with it."""
    monkeypatch.setattr(writer_module, "LONGER_LINGER_S", ((0, 60.0),))
    monkeypatch.setattr(writer_module, "QUIET", 1.0)


def test_a_commit_does_not_wait_once_no_more_batches_come(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Probes that have sent what they may wait for its answer."""
    monkeypatch.setattr(writer_module, "LONGER_LINGER_S", ((0, 60.0),))
    monkeypatch.setattr(writer_module, "QUIET", 0.001)
    assert store.writer().submit(batch(1, [event()])).result(20) == 1


@pytest.mark.usefixtures("waits_for_more")
def test_a_commit_waits_for_more_batches_until_there_are_many_samples(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer_module, "LINGER_SAMPLES", 3)
    writer = store.writer()
    first = writer.submit(batch(1, [event()]))
    assert wait([first], 0.2).not_done
    rest = [writer.submit(batch(seq, [event(T0 + seq)])) for seq in (2, 3)]
    assert [answer.result(20) for answer in (first, *rest)] == [1, 2, 3]


@pytest.mark.usefixtures("waits_for_more")
def test_closing_does_not_wait_for_more_batches(store: Store):
    writer = store.writer()
    answer = writer.submit(batch(1, [event()]))
    began = time.monotonic()
    assert writer.close() == []
    assert answer.result(0) == 1
    assert time.monotonic() - began < 30
