"""docs/models.md and docs/swarm-file.md say what the code does: examples parse, lists are complete."""

from __future__ import annotations

import re
from pathlib import Path

from swarm_predict.cost.engines import ENGINES
from swarm_predict.model.catalogue import catalogue
from swarm_predict.model.weight_formats import WEIGHT_FORMATS
from swarm_protocol.swarm_files.swarm_file import parse_swarm

DOCS = Path(__file__).parents[2] / "docs"


def test_the_example_swarm_file_is_one():
    text = (DOCS / "swarm-file.md").read_text()
    block = re.search(r"\n((?:    .*\n|\n)*    \[\[node\]\](?:.*\n)(?:    .*\n|\n)*)", text)
    assert block is not None
    swarm = parse_swarm("\n".join(line[4:] for line in block[1].splitlines()))
    assert swarm.names == ("t4-1", "home")
    assert swarm.client == "home"
    assert swarm.facts[0].layers[0].ms == 7.1
    assert swarm.links["hop_p50_ms"][0, 1] == 82.0


def test_every_weight_format_is_listed():
    text = (DOCS / "models.md").read_text()
    listed = re.search(r"`--weights`: ([^.]*(?:\n[^.]*)?)\. The bits", text)
    assert listed is not None
    assert set(re.split(r",\s+", listed[1])) == set(WEIGHT_FORMATS)


def test_every_engine_has_its_trips_listed():
    rows = (DOCS / "models.md").read_text().split("### Trips of each engine")[1].split("###")[0]
    listed = {
        name for row in rows.splitlines() if row.startswith("| ") for name in row.split("|")[1].strip().split(", ")
    }
    assert listed - {"engine", "---"} == set(ENGINES)


def test_families_named_in_the_docs_are_in_the_catalogue():
    names = " ".join(catalogue())
    for family in (
        "llama",
        "mistral",
        "mixtral",
        "qwen",
        "gemma",
        "phi",
        "falcon",
        "bloom",
        "deepseek",
        "gpt-oss",
        "tiny",
    ):
        assert family in names


def test_every_further_option_is_explained():
    """The page is where `--help` has no room to say what an option means."""
    from swarmtop.shared_options import Parser, add_question

    parser = Parser("x", "x", "x")
    add_question(parser)
    known = {word for action in parser._actions for word in action.option_strings}
    page = (DOCS / "predictions.md").read_text() + (DOCS / "models.md").read_text()
    ours = {
        "--prefill-chunk",
        "--all-reduce",
        "--offload-gbps",
        "--offload-cache",
        "--draft",
        "--tree",
        "--windows",
        "--cached-prompt",
        "--redundancy",
        "--spot-check",
        "--proof-ms",
    }
    assert ours | {"--calibration"} <= known
    assert all(f"`{word}" in page or f"{word} " in page for word in ours | {"--calibration"})
    named = set(re.findall(r"`(--[a-z-]+)", (DOCS / "predictions.md").read_text()))
    assert named <= known | {"--run", "--runs", "--observed", "--fit", "--out", "--placement"}


def test_the_limits_of_the_verdicts_are_those_of_the_code():
    from swarm_predict.advice import verdicts

    page = (DOCS / "predictions.md").read_text()
    assert f"at {verdicts.READING_TOKENS_PER_S:g} tokens/s (reading speed), first token in" in page
    assert f"{verdicts.SUGGESTION_TOKENS} tokens in {verdicts.SUGGESTION_MS / 1e3:g} s" in page
    assert f"| {verdicts.SUGGESTION_PATIENCE_MS / 1e3:g} s | {verdicts.SUGGESTION_LOST_MS / 1e3:g} s |" in page
    assert verdicts.BATCH_TOKENS == 1_000_000
