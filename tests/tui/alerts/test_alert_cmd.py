"""Claims about `swarmtop alert` as a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmtop import cli

GARAGE = Path(__file__).parents[3] / "examples" / "garage.toml"


def alerted(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(["alert", "--swarm", str(GARAGE), "--model", "llama-2-13b", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_file_has_one_state_and_what_breaks_at_once_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = alerted(capsys, "--rule", "tokens_per_s>1000 for 0s", "--rule", "tokens_per_s>0.001 for 0s")
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    assert "! firing   tokens_per_s>1000: the swarm has" in line


def test_a_change_runs_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = tmp_path / "call.sh"
    script.write_text(f"#!/bin/sh\ncat > {tmp_path}/got\n")
    script.chmod(0o755)
    code, _, err = alerted(capsys, "--rule", "tokens_per_s>1000 for 0s", "--run", str(script))
    assert (code, err) == (0, "")
    assert '"state": "firing"' in (tmp_path / "got").read_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--rule", "x"), "'x' is not a rule; write METRIC<VALUE, as rtt_p99_ms<250"),
        (("--rule", "state!=lost", "--webhook-env", "NO_SUCH"), "$NO_SUCH holds no address of a webhook; set it to https://…"),
        (("--rule", "age_s@nobody<3"), "age_s@nobody<3: there is no node 'nobody'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], line: str) -> None:
    assert alerted(capsys, *words) == (2, "", f"swarmtop: {line}\n")
