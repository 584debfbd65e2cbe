"""A slow machine's share of the processor is what the kernel is given, in periods that are short beside a stage."""

from __future__ import annotations

import os

import pytest

from swarm_lab.emulation.cpu_limit import CpuShare


@pytest.mark.root
@pytest.mark.parametrize(("cores", "later"), [(0.5, 0.1), (1.5, 3.0)])
def test_a_share_can_be_changed_while_its_host_runs(cores: float, later: float) -> None:
    try:
        share = CpuShare(f"test{os.getpid()}", cores)
    except OSError as error:
        pytest.skip(f"no cgroup can be made here ({error})")
    try:
        assert _told(share) == pytest.approx(cores, rel=0.01)
        share.set(later)
        assert _told(share) == pytest.approx(later, rel=0.01)
    finally:
        share.remove()
    assert not share.folder.exists()


def _told(share: CpuShare) -> float:
    if (share.folder / "cpu.max").exists():
        quota, period = (share.folder / "cpu.max").read_text().split()
    else:
        quota, period = ((share.folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return int(quota) / int(period)
