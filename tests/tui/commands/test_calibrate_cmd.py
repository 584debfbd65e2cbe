"""Claims about `swarmtop calibrate`: constants go through a file into predictions; what cannot be used is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmtop import cli

ROOT = Path(__file__).parents[3]
GARAGE = ROOT / "examples" / "garage.toml"
TWO = "attic-3090:0-21,lab-a4000:22-31"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def speed(capsys: pytest.CaptureFixture[str], *words: str) -> float:
    code, out, err = run(capsys, "predict", "--swarm", str(GARAGE), "--placement", TWO, "--json", *words)
    assert (code, err) == (0, "")
    return float(json.loads(out)["tokens_per_s"]["p50"])


def test_what_was_observed_is_predicted_afterwards(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "chain.json"
    code, text, err = run(capsys, "calibrate", "--swarm", str(GARAGE), "--run", f"{TWO}=9.5", "--out", str(out))
    assert (code, err) == (0, "")
    assert f"--calibration {out}" in text
    assert speed(capsys, "--calibration", str(out)) == pytest.approx(9.5, rel=0.02)
    assert speed(capsys) > 12
    assert sorted(tmp_path.iterdir()) == [out]


def test_an_option_given_by_hand_beats_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    run(capsys, "calibrate", "--swarm", str(GARAGE), "--run", f"{TWO}=9.5", "--out", str(out))
    reported = json.loads(run(capsys, "predict", "--swarm", str(GARAGE), "--placement", TWO, "--json",
                          "--calibration", str(out), "--hop-overhead-ms", "30")[1])  # fmt: skip
    assert reported["breakdown_ms"]["overhead"] == pytest.approx(3 * 30.0 + 0.6 + 0.5, rel=0.01)  # two written visits


def test_runs_in_a_file_may_each_have_a_swarm_of_their_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The two networks of the Petals table in one fit, which puts 228 ms of difference on 198 of network."""
    for name in ("fast", "slow"):
        (tmp_path / f"{name}.toml").write_text((ROOT / "docs" / "claims" / f"petals-{name}.toml").read_text())
    (tmp_path / "runs.toml").write_text(
        "\n".join(
            f'[[run]]\nname = "{name}"\nswarm = "{name}.toml"\nplacement = "a:0-23,b:24-47,c:48-69"\n'
            f"tokens_per_s = {rate}"
            for name, rate in (("fast", 1.71), ("slow", 1.23))
        )
    )
    code, out, err = run(
        capsys, "calibrate", "--runs", str(tmp_path / "runs.toml"), "--model", "bloom-176b", "--weights", "int8",
        "--engine", "petals", "--fit", "hop", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [r["run"] for r in found["runs"]] == ["fast", "slow"]
    for residual in found["runs"]:
        assert residual["predicted_ms"] == pytest.approx(residual["observed_ms"], rel=0.05)
    assert found["contradictions"] == []


def test_contradicting_runs_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("calibrate", "--swarm", str(GARAGE), "--run", f"{TWO}=9.5", "--run", f"{TWO}=6.0")
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "contradictions\n  run 1 and run 2 ran the same thing but took 105 and 167 ms" in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "swarmtop: no run is given; --run 'a:0-39,b:40-79=1.7' gives placement and tokens per second\n"),
        (
            ("--run", TWO),
            f"swarmtop: --run takes PLACEMENT=TOKENS_PER_S as 'a:0-39,b:40-79=1.7', not {TWO!r}\n",
        ),
        (
            ("--run", f"{TWO}=9", "--fit", "luck"),
            "swarmtop: --fit takes hop, compute, client, not 'luck'\n",
        ),
        (
            ("--run", "nobody:0-31=9"),
            "swarmtop: run 1: there is no node 'nobody'; the swarm has ",
        ),
        (
            ("--runs", "nowhere.toml"),
            "swarmtop: cannot read nowhere.toml (No such file or directory); correct --runs\n",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "calibrate", "--swarm", str(GARAGE), *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(line)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'[[run]]\nplacment = "a:0-31"\n', "[[run]] 1: unknown key 'placment'; did you mean placement?"),
        (
            b'[[run]]\nplacement = "a:0-31"\ntokens_per_s = "9"\n',
            "[[run]] 1, tokens_per_s: takes a number, not text in quotes",
        ),
        (b"\xff\xfe", " is not UTF-8 text"),
    ],
)
def test_a_list_of_runs_that_cannot_be_read_says_where(
    data: bytes, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "runs.toml").write_bytes(data)
    code, _, err = run(capsys, "calibrate", "--swarm", str(GARAGE), "--runs", str(tmp_path / "runs.toml"))
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith(f"{said}; correct --runs\n")


def test_constants_of_another_engine_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "petals.json"
    run(capsys, "calibrate", "--swarm", str(GARAGE), "--engine", "petals", "--run", f"{TWO}=5", "--out", str(out))
    code, _, err = run(capsys, "predict", "--swarm", str(GARAGE), "--placement", TWO, "--calibration", str(out))
    assert code == 2
    assert err.endswith("which say little of chain; add --engine petals, or calibrate chain\n")
    out.write_text("{}")
    code, _, err = run(capsys, "predict", "--swarm", str(GARAGE), "--placement", TWO, "--calibration", str(out))
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("text", ["4", "4:2", "x:0.5", "0:0.5", "4:0.5:-1", "1:2:3:4", "2:0.9,0.8,0.7", "4:0.9,"])
def test_a_draft_that_is_none_is_reported(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "predict", "--swarm", str(GARAGE), "--placement", TWO, "--draft", text)
    assert (code, err.count("\n")) == (2, 1)
    assert "argument --draft: takes" in err


def test_drafts_and_trust_reach_the_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed(capsys, "--draft", "4:0.8:1") > 2 * speed(capsys)
    code, out, _ = run(
        capsys,
        "predict",
        "--swarm",
        str(GARAGE),
        "--placement",
        TWO,
        "--json",
        "--redundancy",
        "2",
        "--spot-check",
        "0.1",
    )
    assert code == 0
    assert json.loads(out)["trust"].startswith("trust (2 compared copies, spot checks of 0.1 of all steps) costs ")
