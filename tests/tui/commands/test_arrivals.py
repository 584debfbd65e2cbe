"""`--arrivals` of `predict` and `plan`: what is printed, JSON, exit codes, and one line for each mistake."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from swarmtop import cli

GARAGE = str(Path(__file__).parents[3] / "examples" / "garage.toml")
TWO = "attic-3090:0-21,lab-a4000:22-31"
ASK = ("--model", "llama-3.1-8b", "--prefill-chunk", "256")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main([words[0], "--swarm", GARAGE, *ASK, *words[1:]])
    out, err = capsys.readouterr()
    return code, out, err


def serving(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    return json.loads(run(capsys, *words, "--json")[1])["serving"]


def test_predict_says_what_users_get_and_the_front(capsys):
    code, out, err = run(capsys, "predict", "--placement", TWO, "--arrivals", "1/s", "--prompt", "lognormal:256:1000")
    assert (code, err) == (0, "")
    assert "many users    1.00/s: sustained (at most " in out
    assert "at other request rates" in out
    assert "more requests by" in " ".join(out.split())


def test_json_has_schema_and_a_front_that_rises_in_both(capsys):
    found = serving(capsys, "predict", "--placement", TWO, "--arrivals", "1/s")
    assert found["schema"] == 1
    assert found["sustained"] is True
    front = found["front"]
    assert [each["arrivals_per_s"] for each in front] == sorted(each["arrivals_per_s"] for each in front)
    assert [each["tpot_ms"]["mean"] for each in front] == sorted(each["tpot_ms"]["mean"] for each in front)
    assert all(each["tokens_per_s"] == pytest.approx(128 * each["arrivals_per_s"], rel=1e-4) for each in front)
    assert serving(capsys, "predict", "--placement", TWO, "--arrivals", "60/min") == found
    assert serving(capsys, "predict", "--placement", TWO, "--arrivals", "3600/h") == found


def test_means_have_an_interval_in_text_and_json(capsys):
    asked = ("predict", "--placement", TWO, "--arrivals", "0.2/s")
    out = run(capsys, *asked)[1]
    users = out[out.index("many users") :]
    assert re.search(r"per token     \S+ ms \(\S+ … \S+\), p95 ", users)
    assert re.search(r"first token   \S+ ms \(\S+ … \S+\), p95 ", users)
    found = serving(capsys, *asked)
    assert found["at_the_edge"] is False
    for name in ("tpot", "ttft"):
        interval = found[f"{name}_interval_ms"]
        assert interval["p5"] < found[f"{name}_ms"]["mean"] < interval["p95"]


def test_near_the_most_that_is_sustained_the_answer_says_that_it_is_at_the_edge(capsys):
    most = serving(capsys, "predict", "--placement", TWO, "--arrivals", "0.2/s")["most_per_s"]
    asked = ("predict", "--placement", TWO, "--arrivals", f"{0.995 * most:.6f}/s")
    assert "at the edge" in run(capsys, *asked)[1]
    found = serving(capsys, *asked)
    assert found["at_the_edge"] is True
    assert found["tpot_interval_ms"]["p95"] is None


def test_without_arrivals_there_is_nothing_of_many_users(capsys):
    assert "serving" not in json.loads(run(capsys, "predict", "--placement", TWO, "--json")[1])


def test_a_queue_without_bound_ends_with_4_and_says_by_how_much_it_grows(capsys):
    code, out, err = run(capsys, "predict", "--placement", TWO, "--arrivals", "1000/s", "--json")
    assert code == 4
    assert "the queue grows by" in err
    found = json.loads(out)["serving"]
    assert found["sustained"] is False
    assert found["ttft_ms"] == {"mean": None, "p50": None, "p95": None}
    assert found["queue_grows_per_s"] == pytest.approx(1000 - found["most_per_s"], rel=1e-3)


def test_replicas_side_by_side_add_up(capsys):
    one = serving(capsys, "predict", "--placement", TWO, "--arrivals", "1/s")
    other = serving(capsys, "predict", "--placement", "barn-3060:0-15,kiln-2080ti:16-31", "--arrivals", "1/s")
    both = serving(
        capsys, "predict", "--placement", TWO, "--placement", "barn-3060:0-15,kiln-2080ti:16-31", "--arrivals", "1/s"
    )
    assert both["most_per_s"] == pytest.approx(one["most_per_s"] + other["most_per_s"], rel=1e-4)
    assert [len(each["placement"]) for each in both["replicas"]] == [2, 2]
    assert sum(each["share"] for each in both["replicas"]) == pytest.approx(1, rel=1e-4)


def test_lengths_come_from_a_file(capsys, tmp_path):
    path = tmp_path / "lengths.txt"
    path.write_text("100\n200\n300\n")
    listed = serving(capsys, "predict", "--placement", TWO, "--arrivals", "1/s", "--generate", str(path))
    alike = serving(capsys, "predict", "--placement", TWO, "--arrivals", "1/s", "--generate", "200")
    assert listed["tokens_per_s"] == alike["tokens_per_s"] == 200.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--placement", TWO, "--placement", "barn-3060:0-31"), "replicas for many users; add --arrivals"),
        (("--placement", TWO, "--micro-batches", "4"), "--micro-batches is of many users; add --arrivals"),
        (("--placement", TWO, "--prompt", "lognormal:100:200"), "--prompt with several lengths is of many users"),
        (("--placement", TWO, "--arrivals", "1/day"), "takes a rate as 0.5/s"),
        (("--placement", TWO, "--arrivals", "0/s"), "is outside"),
        (("--placement", TWO, "--arrivals", "1/s", "--prompt", "nowhere.txt"), "cannot read nowhere.txt"),
        (("--placement", TWO, "--arrivals", "1/s", "--prompt", "lognormal:5:2"), "a p95 of no less"),
        (("--placement", TWO, "--arrivals", "1/s", "--generate", "1"), "have no time per token"),
        (("--placement", TWO, "--arrivals", "1/s", "--windows", "2"), "set their number with --draft"),
        (("--placement", TWO, "--placement", TWO, "--arrivals", "1/s"), "is there twice; give it once"),
    ],
)
def test_what_cannot_be_is_reported_in_one_line(capsys, words, said):
    code, out, err = run(capsys, "predict", *words)
    assert code == 2
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


def test_plan_chooses_among_replicas_and_says_what_each_machine_is_best_for(capsys):
    code, out, err = run(capsys, "plan", "--arrivals", "1/s")
    assert (code, err) == (0, "")
    assert "between the quickest token and the most requests" in out
    assert "LOST WITHOUT IT" in out
    code, out, _ = run(capsys, "plan", "--arrivals", "1/s", "--json", "--launch")
    found = json.loads(out)
    assert list(found) == [
        "model",
        "weights",
        "engine",
        "draft_tokens",
        "windows",
        "serving",
        "candidates",
        "roles",
        "exact",
        "launch",
    ]
    names = {each["node"] for each in found["roles"]}
    assert names == {"attic-3090", "desk-4070", "kiln-2080ti", "lab-a4000", "barn-3060"}
    assert found["launch"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tpot-limit", "100"), "--tpot-limit is of many users; add --arrivals"),
        (("--replicas", "2"), "--replicas is of many users; add --arrivals"),
        (("--arrivals", "1/s", "--pin", "attic-3090:0-5"), "--pin is not planned together with --arrivals"),
        (("--arrivals", "1/s", "--forbid", "nobody"), "correct --forbid"),
    ],
)
def test_what_plan_cannot_do_is_reported_in_one_line(capsys, words, said):
    code, out, err = run(capsys, "plan", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_plan_keeps_to_what_is_forbidden(capsys):
    found = json.loads(run(capsys, "plan", "--arrivals", "1/s", "--forbid", "attic-3090", "--json")[1])
    assert "attic-3090" not in {each["node"] for each in found["roles"]}
