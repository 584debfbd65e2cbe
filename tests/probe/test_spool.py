"""The spool keeps samples until the collector has acknowledged them, whatever happens to process and disk."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spool_fixtures import NOW_NS, batches, details, note, open_spool

from swarm_probe import spool as spool_module
from swarm_probe.spool import RESERVE, Spool, SpoolError


def test_batches_come_back_in_order_and_are_dropped_once_committed(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for n in range(5):
        spool.append([note(n)])
    assert [batch.seq for batch in batches(spool)] == [1, 2, 3, 4, 5]
    assert details(spool) == [f"sample {n}" for n in range(5)]
    spool.committed(spool.epoch, 3)
    assert [batch.seq for batch in batches(spool)] == [4, 5]
    assert spool.waiting == 2


def test_the_latest_batch_is_sent_without_reading_the_disk(tmp_path: Path) -> None:
    """A probe that is connected sends each batch once it is appended, and opens no file for it."""
    spool = open_spool(tmp_path)
    for n in (1, 2):
        spool.append([note(n)])
    (segment,) = tmp_path.glob("*.seg")
    segment.unlink()
    record = spool.next_after(1)
    assert record is not None
    assert record[0] == 2
    spool.committed(spool.epoch, 2)
    assert spool.next_after(1) is None


def test_an_acknowledgement_of_another_epoch_drops_nothing(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([note(1)])
    spool.committed(spool.epoch + 1, 10)
    assert spool.waiting == 1


def test_what_was_not_committed_is_there_after_a_restart_under_its_number(tmp_path: Path) -> None:
    first = open_spool(tmp_path)
    for n in range(3):
        first.append([note(n)])
    first.committed(first.epoch, 1)
    second = open_spool(tmp_path)  # `first` was never closed: a kill -9
    assert second.epoch == first.epoch
    second.committed(second.epoch, 1)  # from Welcome
    second.append([note(3)])
    assert [batch.seq for batch in batches(second)] == [2, 3, 1 + RESERVE]
    assert details(second) == ["sample 1", "sample 2", "sample 3"]


def test_no_number_is_used_twice_over_restarts_even_when_all_was_committed(tmp_path: Path) -> None:
    used: set[int] = set()
    epochs: set[int] = set()
    for _ in range(5):
        spool = open_spool(tmp_path)
        spool.append([note(0)])
        last = batches(spool)[-1].seq
        assert last not in used
        used.add(last)
        epochs.add(spool.epoch)
        spool.committed(spool.epoch, last)
        spool.close()
    assert len(epochs) == 1


def test_records_a_power_cut_took_back_do_not_free_their_numbers(tmp_path: Path) -> None:
    """They may have been sent and committed: a new batch of that number would be dropped as a repeat."""
    spool = open_spool(tmp_path)
    for n in range(3):
        spool.append([note(n)])
    spool.close()
    (segment,) = tmp_path.glob("*.seg")
    os.truncate(segment, 0)
    again = open_spool(tmp_path)
    again.append([note(9)])
    assert min(batch.seq for batch in batches(again)) > 3


def test_a_lost_folder_begins_a_new_epoch(tmp_path: Path) -> None:
    first = open_spool(tmp_path / "a")
    second = Spool(tmp_path / "b", now_ns=lambda: NOW_NS + 1, say=print)
    assert second.epoch != first.epoch


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    stranger = tmp_path / f"{'9' * 20}-{1:016d}.seg"
    stranger.write_bytes(b"not ours")
    spool = open_spool(tmp_path)
    spool.append([note(1)])
    assert spool.epoch == NOW_NS
    assert stranger.read_bytes() == b"not ours"


def test_committed_segments_leave_the_disk(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_bytes=300)
    for n in range(50):
        spool.append([note(n)])
    assert len(list(tmp_path.glob("*.seg"))) > 5
    spool.committed(spool.epoch, 50)
    assert len(list(tmp_path.glob("*.seg"))) == 1
    assert spool.waiting == 0


def test_a_full_spool_drops_the_oldest_and_tells_how_many(tmp_path: Path) -> None:
    said: list[str] = []
    spool = open_spool(tmp_path, said, segment_bytes=300, max_bytes=1500)
    for n in range(100):
        spool.append([note(n)])
    kept = batches(spool)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.seg")) <= 1500 + 300
    assert kept[-1].seq == 100
    reported = [line for line in details(spool) if "batches lost" in line]
    assert reported[-1].endswith(
        "batches lost since the probe started: the collector was unreachable until the spool was full"
    )
    in_the_last_drop = 3  # batches of one segment at most: told by the batch after the one that caused it
    assert 0 <= (100 - len(kept)) - int(reported[-1].split()[0]) <= in_the_last_drop
    assert said[0] == "the oldest batches are dropped: the collector was unreachable until the spool was full"


def test_every_cut_of_the_file_opens_and_yields_a_prefix(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "whole")
    for n in range(4):
        spool.append([note(n)])
    (segment,) = (tmp_path / "whole").glob("*.seg")
    data = segment.read_bytes()
    for size in range(len(data)):
        folder = tmp_path / f"cut-{size}"
        folder.mkdir()
        (folder / segment.name).write_bytes(data[:size])
        kept = details(open_spool(folder))
        assert kept == [f"sample {n}" for n in range(len(kept))]
        assert len(kept) < 4
    assert kept == ["sample 0", "sample 1", "sample 2"]


def test_every_flipped_byte_opens_and_yields_only_true_batches(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "whole")
    for n in range(3):
        spool.append([note(n)])
    (segment,) = (tmp_path / "whole").glob("*.seg")
    data = segment.read_bytes()
    rng = random.Random(7)
    for at in range(len(data)):
        folder = tmp_path / f"flip-{at}"
        folder.mkdir()
        (folder / segment.name).write_bytes(data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :])
        opened = open_spool(folder)
        kept = details(opened)
        assert kept == [f"sample {n}" for n in range(len(kept))]
        assert len(kept) < 3
        opened.append([note(9)])
        assert "torn or damaged" in details(opened)[-2]


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_in_a_segment_open_without_a_crash(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / f"{NOW_NS:020d}-{1:016d}.seg").write_bytes(data)
    spool = open_spool(folder)
    assert batches(spool) == []
    spool.append([note(1)])
    assert details(spool)[-1] == "sample 1"


def test_bytes_that_go_bad_while_running_are_reported_and_the_rest_continues(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for n in range(3):
        spool.append([note(n)])
    (segment,) = tmp_path.glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[data.index(b"sample 1")] ^= 0xFF
    segment.write_bytes(bytes(data))
    assert details(spool) == ["sample 0"]
    spool.append([note(3)])
    assert details(spool) == [
        "sample 0",
        "2 batches lost since the probe started: data was corrupted on disk",
        "sample 3",
    ]


def test_a_full_disk_keeps_batches_in_memory_says_one_line_and_resumes(
    tmp_path: Path, full_disk: dict[str, bool]
) -> None:
    said: list[str] = []
    spool = open_spool(tmp_path, said)
    spool.append([note(0)])
    full_disk["full"] = True
    for n in range(1, 6):
        spool.append([note(n)])
    assert details(spool) == [f"sample {n}" for n in range(6)]  # and what memory holds can be sent
    assert len(said) == 1
    full_disk["full"] = False
    spool.append([note(6)])
    assert said[1:] == [f"writing to {tmp_path} again"]
    assert details(open_spool(tmp_path)) == [f"sample {n}" for n in range(7)]


def test_a_disk_full_for_long_loses_the_oldest_of_memory_and_tells_it(
    tmp_path: Path, full_disk: dict[str, bool]
) -> None:
    said: list[str] = []
    spool = open_spool(tmp_path, said, memory_bytes=400)
    full_disk["full"] = True
    for n in range(30):
        spool.append([note(n)])
    full_disk["full"] = False
    spool.append([note(30)])
    spool.append([note(31)])
    assert len(said) == 2
    again = details(open_spool(tmp_path))
    (reported,) = [d for d in again if "the disk accepted nothing (No space left on device)" in d]
    lost = int(reported.split()[0])
    assert lost > 20
    assert [d for d in again if d.startswith("sample")] == [f"sample {n}" for n in range(lost, 32)]


def test_a_disk_full_at_the_start_gives_up_the_oldest_of_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path, segment_bytes=200)
    for n in range(20):
        spool.append([note(n)])
    spool.close()
    before = len(list(tmp_path.glob("*.seg")))
    real_open = os.open

    def open_(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT and len(list(tmp_path.glob("*.seg"))) == before:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_open(path, flags, mode)

    monkeypatch.setattr(spool_module.os, "open", open_)
    again = open_spool(tmp_path)
    again.append([note(99)])
    assert details(again)[-1] == "sample 99"
    assert "batches lost since the probe started: the disk was full at the start" in details(again)[-2]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        SpoolError, match=r"^cannot use .*/file/spool \(Not a directory\); give --state another folder$"
    ):
        open_spool(tmp_path / "file" / "spool")


def test_a_copy_restored_behind_the_collector_jumps_above_what_was_committed(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([note(0)])
    spool.committed(spool.epoch, 5000)
    spool.append([note(1)])
    (batch,) = batches(spool)
    assert batch.seq == 5001
    assert "restored from a copy" in details(spool)[0]


def test_a_process_killed_while_writing_leaves_a_spool_that_opens(tmp_path: Path) -> None:
    """kill -9 in the middle of a run of appends: what is there is a prefix, numbered without a hole."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom swarm_probe.spool import Spool\n"
        "from swarm_protocol.messages.samples import EventSample\n"
        "spool = Spool(Path(sys.argv[1]), now_ns=lambda: 1, say=print, segment_bytes=2000)\n"
        "n = 0\n"
        "while True:\n"
        "    spool.append([EventSample(at_ns=1, kind='note', detail=f'sample {n}')])\n"
        "    n += 1\n"
        "    if n == 200: print('going', flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        child.stdout.readline()
        child.kill()
    child.wait()
    kept = details(open_spool(tmp_path))
    assert len(kept) >= 200
    assert kept == [f"sample {n}" for n in range(len(kept))]
