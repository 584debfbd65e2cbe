"""What a spool drops and when: memory while the disk accepts nothing, its limits, and foreign files in its folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from spool_fixtures import NOW_NS, batches, details, note, open_spool

from swarm_probe import spool as spool_module
from swarm_probe.spool import Spool, SpoolError
from swarm_protocol.messages.samples import EventSample

# ---------------------------------------------------------------- what memory holds while the disk takes nothing


def payload_bytes(spool: Spool) -> int:
    return sum(len(record[1]) for record in records(spool))


def records(spool: Spool) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while (record := spool.next_after(found[-1][0] if found else spool.committed_seq)) is not None:
        found.append(record)
    return found


def test_an_acknowledgement_takes_from_memory_what_it_covers_and_no_more(
    tmp_path: Path, full_disk: dict[str, bool]
) -> None:
    spool = open_spool(tmp_path)
    full_disk["full"] = True
    for n in range(6):
        spool.append([note(n)])
    for acknowledged in (0, 1, 4):
        spool.committed(spool.epoch, acknowledged)
        assert [seq for seq, _ in records(spool)] == list(range(acknowledged + 1, 7))
        assert spool.waiting == 6 - acknowledged
        assert spool.size_bytes == payload_bytes(spool) + HEADER_BYTES
    full_disk["full"] = False
    spool.append([note(6)])
    assert details(spool) == ["sample 4", "sample 5", "sample 6"]
    assert details(open_spool(tmp_path)) == ["sample 4", "sample 5", "sample 6"]


HEADER_BYTES = 28  # of the one segment: magic, epoch, first number, CRC


@pytest.mark.parametrize(("spare_bytes", "lost"), [(0, 0), (-1, 1)])
def test_memory_gives_up_the_oldest_batch_at_its_limit_and_not_before(
    spare_bytes: int, lost: int, tmp_path: Path, full_disk: dict[str, bool]
) -> None:
    measured = open_spool(tmp_path / "measured")
    for n in range(4):
        measured.append([note(n)])
    spool = open_spool(tmp_path / "spool", memory_bytes=payload_bytes(measured) + spare_bytes)
    full_disk["full"] = True
    for n in range(4):
        spool.append([note(n)])
    assert details(spool) == [f"sample {n}" for n in range(lost, 4)]
    assert spool.waiting == 4 - lost


def test_the_latest_batch_is_kept_however_large_it_is(tmp_path: Path, full_disk: dict[str, bool]) -> None:
    spool = open_spool(tmp_path, memory_bytes=1)
    full_disk["full"] = True
    for n in range(3):
        spool.append([note(n)])
    assert details(spool) == ["sample 2"]


def test_why_nothing_is_written_is_reported_while_it_lasts(tmp_path: Path, full_disk: dict[str, bool]) -> None:
    said: list[str] = []
    spool = open_spool(tmp_path, said)
    assert spool.trouble is None
    full_disk["full"] = True
    spool.append([note(0)])
    assert spool.trouble == "No space left on device"
    spool.close()
    assert said == [
        f"cannot write to {tmp_path} (No space left on device); measuring continues, what does not fit memory is lost",
        f"1 batches could not be written to {tmp_path} (No space left on device) and are lost",
    ]


def test_closing_writes_what_memory_still_holds(tmp_path: Path, full_disk: dict[str, bool]) -> None:
    spool = open_spool(tmp_path)
    full_disk["full"] = True
    spool.append([note(0)])
    full_disk["full"] = False
    spool.close()
    assert spool.trouble is None
    assert details(open_spool(tmp_path)) == ["sample 0"]


# ---------------------------------------------------------------- bounds, and what is found in the folder


def test_the_default_limit_of_a_spool(tmp_path: Path) -> None:
    assert (spool_module.MAX_BYTES, spool_module.SEGMENT_BYTES, spool_module.MEMORY_BYTES) == (
        67_108_864,
        262_144,
        1_048_576,
    )
    assert (spool_module.RESERVE, spool_module.MAX_EPOCH) == (268_435_456, 4_611_686_018_427_387_904)
    spool = Spool(tmp_path, now_ns=lambda: NOW_NS, say=print)
    for n in range(10):
        spool.append([EventSample(at_ns=NOW_NS + n, kind="note", detail="x" * 290)] * 400)
    sizes = sorted(path.stat().st_size for path in tmp_path.glob("*.seg"))
    assert len(sizes) > 1
    assert all(262_144 <= size < 262_144 + 200_000 for size in sizes[1:])


def test_the_size_is_that_of_the_files(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "not" / "there" / "yet", segment_bytes=300)
    for n in range(20):
        spool.append([note(n)])
    folder = tmp_path / "not" / "there" / "yet"
    assert spool.size_bytes == sum(path.stat().st_size for path in folder.glob("*.seg"))
    assert (spool.waiting, spool.committed_seq) == (20, 0)
    again = open_spool(folder, segment_bytes=300)
    assert again.size_bytes == sum(path.stat().st_size for path in folder.glob("*.seg"))
    assert again.waiting == 20
    again.committed(again.epoch, 7)
    assert (again.waiting, again.committed_seq) == (13, 7)


def test_the_oldest_goes_when_the_limit_is_passed_and_not_before(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "a", segment_bytes=300)
    for n in range(12):
        spool.append([note(n)])
    full = spool.size_bytes
    for limit_bytes, first in ((full, 1), (full - 1, 4)):
        bounded = open_spool(tmp_path / str(limit_bytes), segment_bytes=300, max_bytes=limit_bytes)
        for n in range(12):
            bounded.append([note(n)])
        assert batches(bounded)[0].seq == first


def test_what_was_acknowledged_is_not_lost_when_it_is_dropped(tmp_path: Path) -> None:
    said: list[str] = []
    spool = open_spool(tmp_path, said, segment_bytes=300, max_bytes=400)
    for n in range(40):
        spool.append([note(n)])
        spool.committed(spool.epoch, n + 1)
    assert said == []
    assert not [line for line in details(spool) if "lost" in line]


def test_segments_of_an_older_epoch_are_reported_and_removed(tmp_path: Path) -> None:
    old = Spool(tmp_path, now_ns=lambda: NOW_NS - 5, say=print)
    old.append([note(0)])
    newer = tmp_path / f"{NOW_NS:020d}-{1:016d}.seg"
    newer.write_bytes(b"")
    spool = open_spool(tmp_path)
    assert spool.epoch == NOW_NS
    assert [path.name.split("-")[0] for path in tmp_path.glob("*.seg")] == [f"{NOW_NS:020d}"]
    spool.append([note(1)])
    assert details(spool) == ["1 batches lost since the probe started: the spool held an older epoch", "sample 1"]


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / f"{NOW_NS:020d}-{1:016d}.seg").mkdir()
    said: list[str] = []
    spool = open_spool(tmp_path, said)
    spool.append([note(1)])
    assert details(spool) == [
        "1 batches lost since the probe started: a file of the spool cannot be read (Is a directory)",
        "sample 1",
    ]
    assert len(said) == 1
    assert "cannot remove" in said[0]


def test_the_largest_epoch_of_a_time_is_ours_and_one_beyond_is_not(tmp_path: Path) -> None:
    for folder, epoch, ours in (("a", 2**62, True), ("b", 2**62 + 1, False)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{epoch:020d}-{1:016d}.seg").write_bytes(b"")
        assert (open_spool(tmp_path / folder).epoch == epoch) is ours


def test_a_removed_segment_is_reported_and_the_rest_continues(tmp_path: Path) -> None:
    said: list[str] = []
    spool = open_spool(tmp_path, said, segment_bytes=300)
    for n in range(9):
        spool.append([note(n)])
    first = min(tmp_path.glob("*.seg"))
    first.unlink()
    kept = details(spool)
    assert kept == [f"sample {n}" for n in range(9 - len(kept), 9)]
    assert said == [f"cannot read {first} (No such file or directory); what it held is lost"]
    spool.append([note(9)])
    assert f"{9 - len(kept)} batches lost since the probe started: data was corrupted on disk" in details(spool)


def test_a_copy_with_nothing_waiting_has_lost_nothing(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([note(0)])
    spool.committed(spool.epoch, 1)
    spool.committed(spool.epoch, 5000)
    spool.append([note(1)])
    assert details(spool) == ["sample 1"]
    assert records(spool)[0][0] == 5001


def test_an_acknowledgement_of_before_takes_nothing_back(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for n in range(4):
        spool.append([note(n)])
    spool.committed(spool.epoch, 3)
    spool.committed(spool.epoch, 2)
    assert (spool.committed_seq, spool.waiting) == (3, 1)


def test_the_folder_may_be_removed_while_a_probe_runs(tmp_path: Path) -> None:
    """Somebody tidies up: what comes next is kept again."""
    folder = tmp_path / "spool"
    spool = open_spool(folder, segment_bytes=100)
    spool.append([note(0)])
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    spool.append([note(1)])
    spool.append([note(2)])
    assert details(open_spool(folder)) == ["sample 1", "sample 2"]


def test_segments_are_for_their_owner_alone(tmp_path: Path) -> None:
    open_spool(tmp_path)
    (segment,) = tmp_path.glob("*.seg")
    assert segment.stat().st_mode & 0o777 == 0o600


def test_closing_gives_the_file_back(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    fd = spool._fd
    assert fd is not None
    spool.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    spool.close()  # once more does nothing


def test_one_torn_byte_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / f"{NOW_NS:020d}-{1:016d}.seg").write_bytes(b"x")
    spool = open_spool(tmp_path)
    spool.append([note(0)])
    assert details(spool) == ["1 bytes of the spool were torn or damaged; what they held is lost", "sample 0"]


def test_a_torn_file_is_cut_so_that_it_is_not_reported_again(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for n in range(3):
        spool.append([note(n)])
    spool.close()
    (segment,) = tmp_path.glob("*.seg")
    os.truncate(segment, segment.stat().st_size - 1)
    open_spool(tmp_path).close()
    again = open_spool(tmp_path)
    again.append([note(3)])
    assert details(again) == ["sample 0", "sample 1", "sample 3"]  # told by the opening before, which sent nothing


@pytest.mark.parametrize(("segments", "usable"), [(1, False), (2, True)])
def test_a_disk_full_at_the_start_needs_something_to_give_up(
    segments: int, usable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path, segment_bytes=100)
    for n in range(2 * segments):
        spool.append([note(n)])
        if len(list(tmp_path.glob("*.seg"))) == segments:
            break
    spool.close()
    real_open = os.open

    def open_(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT and len(list(tmp_path.glob("*.seg"))) >= segments:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_open(path, flags, mode)

    monkeypatch.setattr(spool_module.os, "open", open_)
    if usable:
        open_spool(tmp_path)
        assert len(list(tmp_path.glob("*.seg"))) == segments
    else:
        with pytest.raises(SpoolError, match=r"^cannot write to .* \(No space left on device\); free space or give"):
            open_spool(tmp_path)


def test_a_new_segment_that_cannot_be_synced_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = open_spool(tmp_path, segment_bytes=60)
    spool.append([note(0)])
    real, broken = os.fsync, True

    def fsync(fd: int) -> None:
        if broken and os.readlink(f"/proc/self/fd/{fd}").endswith(f"{2:016d}.seg"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(spool_module.os, "fsync", fsync)
    spool.append([note(1)])
    assert spool.trouble == "Input/output error"
    assert details(spool) == ["sample 0", "sample 1"]
    broken = False
    spool.append([note(2)])
    assert spool.trouble is None
    assert details(open_spool(tmp_path)) == ["sample 0", "sample 1", "sample 2"]


def test_the_last_segment_stays_however_small_the_limit(tmp_path: Path) -> None:
    said: list[str] = []
    spool = open_spool(tmp_path, said, segment_bytes=60, max_bytes=1)
    for n in range(5):
        spool.append([note(n)])
    assert len(list(tmp_path.glob("*.seg"))) == 1
    assert said == ["the oldest batches are dropped: the collector was unreachable until the spool was full"]


def test_a_segment_that_is_gone_already_need_not_be_removed(tmp_path: Path) -> None:
    said: list[str] = []
    spool = open_spool(tmp_path, said, segment_bytes=60)
    for n in range(3):
        spool.append([note(n)])
    min(tmp_path.glob("*.seg")).unlink()
    spool.committed(spool.epoch, 3)
    assert said == []


def test_a_copy_that_is_behind_by_one_batch_is_noticed_too(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([note(0)])
    spool.committed(spool.epoch, 2)
    spool.append([note(1)])
    (batch,) = batches(spool)
    assert batch.seq == 3
    assert "restored from a copy" in details(spool)[0]


def test_how_much_was_torn_is_reported(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([note(0)])
    good = spool.size_bytes
    spool.append([note(1)])
    torn = spool.size_bytes - 1
    spool.close()
    (segment,) = tmp_path.glob("*.seg")
    os.truncate(segment, torn)
    again = open_spool(tmp_path)
    again.append([note(2)])
    reported = f"{torn - good} bytes of the spool were torn or damaged; what they held is lost"
    assert details(again) == ["sample 0", reported, "sample 2"]


def test_a_loss_is_reported_once_and_bad_bytes_no_longer_count(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([note(0)])
    good = spool.size_bytes
    for n in (1, 2):
        spool.append([note(n)])
    (segment,) = tmp_path.glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[data.index(b"sample 1")] ^= 0xFF
    segment.write_bytes(bytes(data))
    assert details(spool) == ["sample 0"]
    assert spool.size_bytes == good
    for n in (3, 4):
        spool.append([note(n)])
    lost = "2 batches lost since the probe started: data was corrupted on disk"
    assert details(spool) == ["sample 0", lost, "sample 3", "sample 4"]
