"""Why this machine cannot run the lab: one line that names the remedy, whatever the cause."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from swarm_lab.emulation import netns


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOENT, "modprobe tun"),
        (errno.ENODEV, "modprobe tun"),
        (errno.EACCES, "chmod 0666 /dev/net/tun"),
        (errno.EPERM, "start it with --device /dev/net/tun"),
        (errno.EIO, "/dev/net/tun cannot be opened (Input/output error)"),
    ],
)
def test_a_device_that_cannot_be_opened_names_the_remedy(
    number: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(netns.os, "open", refuse)
    with pytest.raises(netns.TunUnavailable) as caught:
        netns._open_tun()
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(netns.why_unavailable() is not None, reason=str(netns.why_unavailable()))
def test_a_missing_device_is_found_by_the_trial_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns, "TUN", tmp_path / "tun")
    said = netns.why_unavailable()
    assert said is not None
    assert said.startswith(f"the lab needs the TUN device: {tmp_path / 'tun'} is missing; as root: modprobe tun")


def test_a_trial_that_dies_without_a_word_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        os._exit(3)

    monkeypatch.setattr(netns, "make_host", lambda _: die())
    monkeypatch.setattr(netns, "enter_user_namespace", lambda: None)
    said = netns.why_unavailable()
    assert said is not None
    assert said.endswith("without a reason")
