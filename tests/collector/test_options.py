"""The operator's settings mean the same wherever they are set, and a mistyped one is reported, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm_collector.options import DEFAULT_RETAIN, SETTINGS, Options, Unusable, options, retain_ns

HOUR_NS = 3600 * 10**9


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "collector.toml"
    path.write_text('listen = "0.0.0.0:1"\nretain = "7d"\nshow_addresses = true\nmodel = "llama-2-70b"\n')
    return path


def chosen(*arguments: str, **environment: str) -> Options:
    return options(arguments, environment)


def test_nothing_said_is_loopback_two_days_and_no_token():
    nothing = chosen()
    assert (nothing.host, nothing.port, nothing.token, nothing.model) == ("127.0.0.1", 9470, "", None)
    assert nothing.retain_ns == retain_ns(DEFAULT_RETAIN) == 48 * HOUR_NS
    assert nothing.store.endswith("/swarm.db")


def test_flags_go_before_the_environment_and_that_before_the_file(config: Path):
    environment = {"SWARM_COLLECTOR_RETAIN": "2d", "SWARM_COLLECTOR_LISTEN": ":2", "SWARMTOP_TOKEN": "t"}
    result = chosen("--config", str(config), "--listen", ":3", **environment)
    assert (result.port, result.retain_ns, result.model) == (3, 48 * HOUR_NS, "llama-2-70b")
    assert (result.show_addresses, result.token) == (True, "t")


def test_the_environment_may_name_the_file_and_take_a_switch_back(config: Path):
    result = chosen(SWARM_COLLECTOR_CONFIG=str(config), SWARM_COLLECTOR_SHOW_ADDRESSES="false")
    assert (result.port, result.show_addresses) == (1, False)


def test_an_empty_token_argument_takes_back_the_one_of_the_environment():
    assert chosen("--token", "", SWARMTOP_TOKEN="t").token == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listn = 'x'", "sets listn, which is not a setting; listen is"),
        ("zzzzz = 1", "sets zzzzz, which is not a setting; there are listen, store, "),
        ("retain = 48", 'sets retain = 48; give text in quotes, as in "48h"'),
        ("show_addresses = 'yes'", "sets show_addresses = yes; give true or false"),
        ("listen", "is not TOML ("),
        ("retain = '5m'", "--retain: 5m is less than 1h; forever keeps all"),
    ],
)
def test_what_a_file_gets_wrong_is_one_line(tmp_path: Path, text: str, said: str):
    path = tmp_path / "collector.toml"
    path.write_text(text)
    with pytest.raises(Unusable) as refused:
        chosen("--config", str(path))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path):
    with pytest.raises(Unusable, match=r"cannot read --config .*none\.toml \(No such file or directory\)"):
        chosen("--config", str(tmp_path / "none.toml"))


def test_a_switch_in_the_environment_is_true_or_false():
    with pytest.raises(Unusable, match=r"\$SWARM_COLLECTOR_SHOW_ADDRESSES is maybe; give true or false"):
        chosen(SWARM_COLLECTOR_SHOW_ADDRESSES="maybe")


def test_for_ever_is_no_number():
    assert chosen("--retain", "forever").retain_ns is None


def test_every_setting_is_in_the_operators_handbook():
    text = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    missing = [setting.name for setting in SETTINGS if f"`{setting.key}`" not in text]
    assert missing == []
