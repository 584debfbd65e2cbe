"""A quota of cgroups v1 and v2, of a group's own or of one above it, as a container or a lab host has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm_probe.operating_system.cpu_quota import Quota, quota_of_this_process


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own"


def test_v2_takes_the_tightest_of_the_groups_above(tmp_path: Path, own: Path) -> None:
    root = tmp_path / "cgroup"
    write(root, cgroup__controllers="cpu memory")
    write(root / "box", cpu__max="50000 100000\n")
    write(root / "box" / "job", cpu__max="max 100000\n")
    own.write_text("0::/box/job\n")
    assert quota_of_this_process(root, own) == Quota(0.5, 0.1)


def test_v1_names_the_controller(tmp_path: Path, own: Path) -> None:
    root = tmp_path / "cgroup"
    write(root / "cpu" / "job", cpu__cfs_quota_us="150000\n", cpu__cfs_period_us="100000\n")
    own.write_text("5:memory:/other\n3:cpu,cpuacct:/job\n0::/\n")
    assert quota_of_this_process(root, own) == Quota(1.5, 0.1)


def test_a_container_sees_its_own_group_as_the_top(tmp_path: Path, own: Path) -> None:
    root = tmp_path / "cgroup"
    write(root, cgroup__controllers="cpu", cpu__max="200000 100000\n")
    own.write_text("0::/kubepods/pod1/outside\n")
    assert quota_of_this_process(root, own) == Quota(2.0, 0.1)


def test_no_limit_and_no_cgroups_are_no_limit(tmp_path: Path, own: Path) -> None:
    root = tmp_path / "cgroup"
    assert quota_of_this_process(root, own) is None
    write(root / "cpu" / "job", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    own.write_text("3:cpu:/job\n")
    assert quota_of_this_process(root, own) is None


def test_what_fits_a_period_runs_at_full_speed_and_longer_work_waits() -> None:
    quota = Quota(cores=0.5, period_s=0.1)
    assert quota.least_s(0.04) == 0.0
    assert quota.least_s(0.5) == pytest.approx(1.0)
