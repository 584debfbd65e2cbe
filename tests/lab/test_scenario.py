"""A scenario file: each mistake one line, and cities from the bundled matrix."""

from __future__ import annotations

import pytest

from swarm_lab.bundled_scenarios import bundled, bundled_text
from swarm_lab.emulation.cities import round_trips_ms
from swarm_lab.emulation.scenario import ScenarioError, city_delays_ms, parse_scenario
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import Workload
from swarm_protocol.swarm_files.swarm_file import parse_swarm

HEAD = 'title = "t"\n[[host]]\nname = "a"\n[[host]]\nname = "b"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('title = "t"\n', "there is no [[host]]; write at least one"),
        (HEAD + "colour = 3\n", "[[host]] 2 (b): unknown key 'colour'; there are name, access, "),
        (HEAD.replace('"b"', '"a"'), "'a' appears twice"),
        (HEAD + 'access = "dialup"\n', "no access profile 'dialup'; there are datacentre, lan"),
        (HEAD + 'city = "West Europe"\n', 'a city needs matrix = "azure"'),
        (HEAD + '[[path]]\nfrom = "a"\nto = "c"\n', "there is no host 'c'"),
        (HEAD + '[[event]]\nat_s = 3\naction = "freeze"\n', "at 3 s, freeze: needs host"),
        (HEAD + '[[event]]\nat_s = 3\naction = "explode"\n', "[[event]] 1, action: takes "),
    ],
)
def test_each_mistake_is_reported_in_one_line(text, said):
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_collector_host_is_added_where_there_is_none():
    assert parse_scenario(HEAD).names() == ("a", "b", "collector")


def test_cities_are_half_a_round_trip_apart_both_ways():
    text = 'matrix = "azure"\n' + HEAD.replace('"b"\n', '"b"\ncity = "East US"\n').replace(
        '"a"\n', '"a"\ncity = "West Europe"\n'
    )
    cities = round_trips_ms("azure")
    delays = city_delays_ms(parse_scenario(text), cities)
    assert delays[0, 1] == cities["West Europe", "East US"] / 2
    assert 20 < delays[0, 1] < 80


def test_an_unknown_city_is_named():
    text = 'matrix = "azure"\n' + HEAD.replace('"b"\n', '"b"\ncity = "Atlantis"\n').replace(
        '"a"\n', '"a"\ncity = "West Europe"\n'
    )
    with pytest.raises(ScenarioError, match="Atlantis"):
        city_delays_ms(parse_scenario(text), round_trips_ms("azure"))


@pytest.mark.parametrize("name", bundled())
def test_every_bundled_scenario_is_one(name):
    scenario = parse_scenario(bundled_text(name))
    assert scenario.about
    city_delays_ms(scenario, round_trips_ms(scenario.matrix))


@pytest.mark.parametrize("name", [name for name in bundled() if "\nrunning =" in bundled_text(name)])
def test_what_a_bundled_scenario_runs_fits_its_hosts(name):
    """Else the best plan is slower than what runs, and the ranking says that memory limits it."""
    scenario = parse_scenario(bundled_text(name))
    text = '[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = 20.0\n'
    for host in scenario.host:
        room = f"vram_gib = {host.memory_gib}\n" if host.memory_gib is not None else ""
        text += f'[[node]]\nname = "{host.name}"\n{room}mem_gbps = 50.0\ntflops = 1.0\n'
    swarm, model = parse_swarm(text), model_named(scenario.model)
    placement = parse_placement(scenario.running, model, swarm)
    found = predict(swarm, model, placement, Workload(weights="fp32"))
    assert [note for note in found.notes if "needs" in note] == []
    assert found.fits
