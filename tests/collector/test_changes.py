"""Changes are found, reported once about the right subject, and end once; ordinary variation is not reported."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import re
import time

import msgspec
import pytest
from change_situations import T0, Situation, Step, load, play, samples, situations
from collector_fixtures import FOCUS, id_of
from collector_rig import collector, link
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from swarm_collector.changes.change_thresholds import RTT, number
from swarm_collector.changes.detected_change import Found, Move, describe
from swarm_collector.changes.detector import ChangeDetector
from swarm_collector.changes.plan_rate import PlanRate
from swarm_collector.changes.recorded_changes import recorded_changes
from swarm_collector.changes.series.level import Level
from swarm_collector.changes.subjects import SWARM, Subject, subjects
from swarm_collector.focus_model import model_of
from swarm_collector.ingest.store_client import StoreClient
from swarm_collector.members.membership import NodeEvent
from swarm_predict.forecast.prediction import predict
from swarm_predict.placement import parse_placement
from swarm_predict.types import Workload
from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.running import Running
from swarm_protocol.messages.samples import EventSample, LinkSample, UplinkSample
from swarm_protocol.snapshot.open_changes import change_key, open_changes
from swarm_protocol.snapshot.swarm import Event, Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarm_protocol.units import NS_PER_S


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("path", situations(), ids=lambda path: path.stem)
def test_situation(path, seed):
    situation = load(path)
    found = play(situation, seed)
    told = [(each.kind, each.subject.node or "", text) for each, text in found]
    assert [(kind, node) for kind, node, _ in told] == [(want.kind, want.node) for want in situation.told], told
    for (each, text), want in zip(found, situation.told, strict=True):
        assert re.fullmatch(want.text, text), text
        at_s = (each.at_ns - T0) / NS_PER_S
        assert want.after_s <= at_s <= want.before_s, (at_s, text)


UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # a failing swarm is short enough to read


@settings(max_examples=15, deadline=None, phases=UNSHRUNK)
@given(
    seed=st.integers(0, 2**20),
    rtt_ms=st.floats(1.0, 300.0),
    jitter=st.floats(0.0, 0.5),
    loss=st.floats(0.0, 0.03),
    nodes=st.integers(2, 5),
)
def test_a_quiet_swarm_tells_nothing(seed, rtt_ms, jitter, loss, nodes):
    names = [chr(ord("a") + k) for k in range(nodes)]
    quiet = Situation(about="", nodes=names, seconds=1500, rtt_ms=rtt_ms, jitter_ms=jitter * rtt_ms, loss=loss)
    assert play(quiet, seed) == []


@settings(max_examples=25, deadline=None, phases=UNSHRUNK)
@given(
    seed=st.integers(0, 2**20), rtt_ms=st.floats(5.0, 200.0), ratio=st.floats(1.3, 20.0), lasts_s=st.integers(60, 200)
)
def test_any_step_above_the_minimum_effect_is_reported_once_and_ends_once(seed, rtt_ms, ratio, lasts_s):
    worse_ms = max(rtt_ms * ratio, rtt_ms + RTT.least_step * 1.2)
    turned = Situation(
        about="", nodes=["a", "b", "c", "d"], seconds=200 + lasts_s + 150, rtt_ms=rtt_ms, jitter_ms=0.02 * rtt_ms,
        step=[Step(at_s=200, node="d", rtt_ms=worse_ms), Step(at_s=200 + lasts_s, node="d", rtt_ms=rtt_ms)],
    )  # fmt: skip
    told = [(each.kind, each.subject) for each, _ in play(turned, seed)]
    assert told == [("degraded", Subject("d")), ("recovered", Subject("d"))]


@pytest.mark.parametrize(("seconds", "told"), [(2.0, ["degraded"]), (8.0, [])])
def test_a_path_that_turns_while_transfers_run_is_reported_where_their_queues_cannot_fill_a_window(seconds, told):
    """All windows since the turn are loaded: their least is the path's, unless a queue stood for all of one."""
    detector, names = ChangeDetector(), "abcd"
    for k in range(20):
        turned = k >= 16
        for i, src in enumerate(names):
            at_ns = T0 + (8 * k + 2 * i) * NS_PER_S
            for dst in names.replace(src, ""):
                base_ms, loaded = (101.0 if turned and "d" in (src, dst) else 21.0), turned or k == 10
                high_ms = base_ms + (90.0 if loaded else 1.0)
                detector.add(src, msgspec.structs.replace(
                    link(at_ns, dst, base_ms), rtt_p50_ms=base_ms + 5.0, rtt_p95_ms=high_ms, rtt_p99_ms=high_ms,
                    pdv_ms=high_ms - base_ms, loaded=loaded,
                ))  # fmt: skip
                if loaded:
                    detector.add(src, UplinkSample(
                        at_ns=at_ns, peer=dst, sent_bytes=1 << 20, mbps=40.0, bound=False, seconds=seconds,
                    ))  # fmt: skip
        found = detector.advance(T0 + (8 * k + 8) * NS_PER_S)
        if found:
            break
    assert [(each.kind, each.subject) for each in found] == [(kind, Subject("d")) for kind in told]


def test_the_same_samples_give_the_same_changes_in_a_recording():
    situation = load(next(path for path in situations() if path.stem == "node_turns_and_heals"))
    events = recorded_changes(samples(situation, 1), str)
    assert [(event.kind, event.node, event.detail) for event in events] == [
        (each.kind, each.subject.node, text) for each, text in play(situation, 1)
    ]


def test_one_stalled_window_is_no_change_and_two_moments_of_it_are_needed():
    level = Level(RTT)
    for k in range(30):
        level.add(20.0, k * 8 * NS_PER_S + 1, window=(19.9, 20.5))
    level.add(200.0, 30 * 8 * NS_PER_S + 1, window=(19.9, 900.0))
    assert 0 < level.worse < RTT.alarm_decades / 2
    level.add(20.0, 31 * 8 * NS_PER_S + 1, window=(19.9, 20.5))
    assert level.worse == 0
    assert level.usual == pytest.approx(20.0, rel=1e-3)


def test_a_clock_that_was_set_back_does_not_silence_a_series():
    level = Level(RTT)
    for k in range(10):
        level.add(20.0, T0 + k * NS_PER_S)
    for k in range(4):
        level.add(90.0, T0 - 86_400 * NS_PER_S + k * NS_PER_S, window=(90.0, 90.1))
    assert level.worse > RTT.alarm_decades


def test_peers_of_a_node_that_changed_are_not_accused():
    pairs = {("a", "e"): 9.0, ("b", "e"): 9.0, ("c", "e"): 9.0, ("d", "e"): 9.0, ("a", "b"): 9.0}
    found = subjects(pairs, 8.0, dict.fromkeys("abcde", 4), 10, 5)
    assert [who for who, _ in found] == [Subject("e"), Subject("a", "b")]
    assert subjects(dict.fromkeys([("a", "b"), ("c", "d")], 9.0), 8.0, dict.fromkeys("abcd", 3), 6, 4) == [
        (Subject("a", "b"), (("a", "b"),)),
        (Subject("c", "d"), (("c", "d"),)),
    ]


def test_numbers_are_as_exact_as_they_are_known():
    assert [number(value) for value in (0.0, 0.4231, 9.14, 20.7, 100.6, 1250.0)] == [
        "0",
        "0.423",
        "9.1",
        "21",
        "101",
        "1250",
    ]


MOVE = (Move(RTT, 20.7, 100.8),)


@pytest.mark.parametrize(
    ("found", "key"),
    [
        (Found(1, "degraded", Subject("a"), MOVE, 4, 4), "peers"),
        (Found(1, "degraded", Subject("a"), MOVE, 3, 4), "peers"),
        (Found(1, "recovered", Subject("a"), MOVE, 3, 4, lasted_ns=60 * NS_PER_S), "peers"),
        (Found(1, "settled", Subject("a"), MOVE, 4, 4, usual=True), "peers"),
        (Found(1, "degraded", Subject("a", "kiln-07"), MOVE, 1, 1), "kiln-07"),
        (Found(1, "recovered", Subject("a", "kiln-07"), MOVE, 1, 1, lasted_ns=NS_PER_S), "kiln-07"),
        (Found(1, "degraded", SWARM, MOVE, 9, 10), "peers"),
        (Found(1, "degraded", Subject("a"), (), detail="RTX 3090 throttled (heat to 90 °C)"), "throttled"),
    ],
)
def test_an_event_names_the_node_or_link_that_changed(found, key):
    """The badge, the rule `changes` and who is degraded are read from the text that is stored."""
    text = describe(found, str)
    assert change_key(text) == key
    assert change_key(f"{text}; plan 20.6 → 9.1 tok/s") == key


def event(kind: str, node: str, detail: str = "RTT 21 → 101 ms to all peers", at_ns: int = 0) -> Event:
    return Event(at_ns=at_ns, node=node, kind=kind, detail=detail)


def test_open_changes_are_those_that_did_not_end():
    link, node = event("degraded", "a", "RTT 21 → 50 ms to b"), event("degraded", "a")
    assert open_changes([link, node]) == (link, node)
    assert open_changes(
        [link, node, event("recovered", "a", "RTT 50 → 21 ms to b, after 60 s; plan 9 → 20 tok/s")]
    ) == (node,)
    assert open_changes([link, node, event("recovered", "b")]) == (link, node)
    assert open_changes([link, node, event("left", "a", "bye")]) == ()
    assert open_changes([link, node, event("left", "b", "bye")]) == (node,)
    assert open_changes([link, node, event("settled", "a", "the collector was restarted: …")]) == ()
    assert open_changes([event("improved", "a"), event("settled", "a")]) == ()


# ---------------------------------------------------------------- the effect on the plan


def three(rtt_ms: float, gib: float = 12.0) -> Swarm:
    """Return two fast nodes that hold the model between them, and one that no plan needs."""
    nodes = [
        f'[[node]]\nname = "{name}"\nvram_gib = {gib}\nup_mbps = 100\ndown_mbps = 100\nmem_gbps = {gbps}\ntflops = 70'
        for name, gbps in (("a", 900), ("b", 800), ("spare", 60))
    ]
    return parse_swarm("\n".join([*nodes, f'[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = {rtt_ms}']), source="test")


EIGHT_B = msgspec.structs.replace(FOCUS, model="llama-3.1-8b", dtype="fp16")


def test_the_effect_is_on_the_previous_placement_and_ends_where_it_began():
    rate = PlanRate()
    assert rate.effect(three(20.0), "a") == ""  # no plan is known yet
    assert rate.look(three(20.0), EIGHT_B, T0) is None
    told = [rate.effect(three(rtt_ms), "a") for rtt_ms in (120.0, 20.0)]
    rates = [re.findall(r"[\d.]+", line) for line in told]
    assert told == [f"plan {before} → {after} tok/s" for before, after in rates]
    assert float(rates[0][0]) > 2 * float(rates[0][1])
    assert rates[1] == rates[0][::-1]
    assert rate.effect(three(120.0), "spare") == "not in the best plan"


def running(swarm: Swarm, placement: str, at_ns: int = T0) -> Swarm:
    return dataclasses.replace(swarm, running=Running(placement, source="test", at_ns=at_ns))


def test_the_effect_is_on_what_runs_where_that_is_known():
    """The best plan may not have been started."""
    slow, best, rate = "spare:0-15,a:16-31", PlanRate(), PlanRate()
    best.look(three(20.0), EIGHT_B, T0)
    rate.look(running(three(20.0), slow), EIGHT_B, T0)
    told = rate.effect(running(three(120.0), slow, at_ns=T0 + 1), "spare")  # told again
    (before, after), (of_best, _) = (re.findall(r"[\d.]+", text) for text in (told, best.effect(three(120.0), "a")))
    prediction = predict(
        three(20.0), model_of(EIGHT_B), parse_placement(slow, model_of(EIGHT_B), three(20.0)), Workload()
    )
    assert before == number(prediction.tokens_per_s.p50)
    assert float(after) < float(before) < float(of_best)
    assert rate.effect(running(three(120.0), slow), "b") == "not in the running placement"


def test_a_placement_reported_since_has_no_earlier_rate():
    rate = PlanRate()
    rate.look(three(20.0), EIGHT_B, T0)
    turned = running(three(120.0), "b:0-15,a:16-31")
    assert rate.effect(turned, "a") == ""
    assert rate.is_due(T0 + 1)
    rate.look(turned, EIGHT_B, T0 + 1)
    assert rate.effect(running(three(20.0), "b:0-15,a:16-31"), "a").startswith("plan ")
    assert rate.effect(three(20.0), "a") == ""  # it stopped


def test_the_best_plan_stands_for_a_placement_of_another_model():
    rate = PlanRate()
    other = running(three(20.0), "a:0-39,b:40-79")
    rate.look(other, EIGHT_B, T0)
    assert rate.effect(other, "spare") == "not in the best plan"


def test_a_swarm_that_cannot_hold_the_model_has_no_effect_to_tell():
    rate = PlanRate()
    assert rate.look(three(20.0, gib=2.0), EIGHT_B, T0) is None
    assert rate.effect(three(120.0, gib=2.0), "a") == ""


def test_a_token_of_the_plan_is_away_for_what_the_others_and_the_network_take():
    """Probes time their visits after such a pause: longer than the round trip, shorter than a token."""
    rate = PlanRate()
    assert rate.away_ms == {}
    rate.look(three(20.0), EIGHT_B, T0)
    near = dict(rate.away_ms)
    rate.look(three(120.0), EIGHT_B, T0 + 60 * NS_PER_S)
    far = dict(rate.away_ms)
    assert len(near) == len(far) >= 2
    assert set(near) <= {facts.node_id for facts in three(20.0).facts}
    token_ms = 1000 / float(re.findall(r"[\d.]+", rate.effect(three(120.0), None))[0])
    assert all(120.0 < ms < token_ms for ms in far.values())
    assert all(far[node] - near[node] == pytest.approx(100.0, rel=0.3) for node in near)


def plans(*rtts: float) -> list[tuple[str, str]]:
    """Return what is reported about the best plan, checked every minute."""
    rate = PlanRate()
    told = [rate.look(three(rtt_ms), EIGHT_B, T0 + k * 60 * NS_PER_S) for k, rtt_ms in enumerate(rtts)]
    return [each for each in told if each is not None]


def test_a_plan_that_loses_without_any_single_change_is_reported_once_and_ends_once():
    (kind, worse), (end, back) = plans(*[20.0] * 10, *[60.0] * 8, *[20.0] * 8)
    assert (kind, end) == ("degraded", "recovered")
    assert re.fullmatch(r"best plan [\d.]+ → [\d.]+ tok/s; no single figure has changed as much", worse)
    assert re.fullmatch(r"best plan [\d.]+ → [\d.]+ tok/s", back)
    assert change_key(worse) == change_key(back) == "best plan"


def test_a_worse_plan_that_lasts_is_usual_after_an_hour_and_a_better_one_is_no_alarm():
    assert [kind for kind, _ in plans(*[20.0] * 10, *[60.0] * 80)] == ["degraded", "settled"]
    assert plans(*[60.0] * 10, *[20.0] * 10) == []


def test_a_worse_plan_ends_with_the_members_it_was_of():
    rate = PlanRate()
    for k in range(14):
        told = rate.look(three(20.0 if k < 10 else 60.0), EIGHT_B, T0 + k * 60 * NS_PER_S)
        if told is not None:
            break
    assert told is not None
    kind, text = rate.look(three(60.0, gib=2.0), EIGHT_B, T0 + 1800 * NS_PER_S) or ("", "")
    assert (told[0], kind) == ("degraded", "settled")
    assert change_key(text) == change_key(told[1])


# ---------------------------------------------------------------- in the collector


def windows_of(now_ns: int, peer: str, rtts: list[float]) -> tuple[LinkSample, ...]:
    """The newest window last, 8 s apart."""
    return tuple(link(now_ns - 8 * NS_PER_S * (len(rtts) - 1 - k), peer, rtt_ms) for k, rtt_ms in enumerate(rtts))


async def test_a_change_is_an_event_for_viewers_and_in_the_store(tmp_path):
    names = ("kiln", "oven", "attic")
    async with collector(tmp_path) as rig, contextlib.AsyncExitStack() as stack:
        probes = {name: await stack.enter_async_context(rig.probe(name)) for name in names}
        viewer = await stack.enter_async_context(rig.viewer())
        await viewer.until(lambda swarm: len(swarm) == len(names))
        now_ns = time.time_ns()
        for name, probe in probes.items():
            quiet = [
                each
                for peer in names
                if peer != name
                for each in windows_of(
                    now_ns, id_of(peer), [20.7] * 8 + [101.0 if "attic" in (name, peer) else 20.7] * 3
                )
            ]
            await probe.batch(1, *sorted(quiet, key=lambda each: each.at_ns))
        swarm = await viewer.until(lambda swarm: any(each.kind == "degraded" for each in swarm.events))
        (told,) = open_changes(swarm.events)
        assert (told.node, told.detail) == ("attic", "RTT 21 → 101 ms to all peers")
        for name, probe in probes.items():
            healed = [link(time.time_ns() + k, id_of(peer), 20.7) for k in (1, 2, 3) for peer in names if peer != name]
            await probe.batch(2, *healed)
        swarm = await viewer.until(lambda swarm: any(each.kind == "recovered" for each in swarm.events))
        assert open_changes(swarm.events) == ()
    with contextlib.closing(StoreClient(f"sqlite:///{tmp_path / 'swarm.db'}")) as store:
        rows = "".join(text for text, _ in store.csv("event", 0, 2**62)).splitlines()
    assert [kind for row in rows for kind in ("degraded", "recovered") if f",{kind}," in row] == [
        "degraded",
        "recovered",
    ]


async def test_a_probe_cannot_say_that_another_or_itself_is_degraded(tmp_path):
    async with collector(tmp_path) as rig, rig.probe("kiln") as kiln, rig.viewer() as viewer:
        forged = EventSample(at_ns=time.time_ns(), kind="degraded", detail="RTT 1 → 900 ms to all peers")
        await kiln.batch(1, forged)
        swarm = await viewer.until(lambda swarm: any("900" in each.detail for each in swarm.events))
        assert [each.kind for each in swarm.events if "900" in each.detail] == ["note"]


async def test_a_restarted_collector_ends_what_it_no_longer_follows(tmp_path):
    async with collector(tmp_path) as rig, rig.probe("kiln") as kiln, rig.viewer() as viewer:
        await kiln.welcome()
        rig.swarm_state.report(NodeEvent(id_of("kiln"), "degraded", "RTT 21 → 101 ms to all peers"))
        await viewer.until(lambda swarm: len(open_changes(swarm.events)) == 1)
    async with collector(tmp_path) as rig, rig.viewer() as viewer:
        swarm = await viewer.until(lambda swarm: any(each.kind == "settled" for each in swarm.events))
        assert open_changes(swarm.events) == ()


def test_windows_in_columns_are_followed_as_in_rows():
    """Also where some of them are history by now."""
    rng = random.Random(3)
    in_rows, in_columns = ChangeDetector(), ChangeDetector()
    found: list[list[object]] = [[], []]
    for step in range(200):
        at_ns = (step + 1) * 10 * NS_PER_S
        rtt_ms = 20.0 if step < 120 else 90.0
        windows = [
            LinkSample(
                at_ns=at_ns - rng.choice((0, 0, 400)) * NS_PER_S, peer=peer, path="direct", sent=16,
                lost=rng.choice((0, 0, 0, 1)), rtt_min_ms=rtt_ms, rtt_p50_ms=rtt_ms + rng.random(),
                rtt_p95_ms=rtt_ms + 2.0, pdv_ms=2.0, loaded=rng.random() < 0.1,
            )
            for peer in ("b" * 16, "c" * 16)
        ]  # fmt: skip
        since_ns = max(0, at_ns - 120 * NS_PER_S)
        in_columns.add_windows("a" * 16, LinkColumns.of(windows), since_ns)
        for window in windows:
            if window.at_ns >= since_ns:
                in_rows.add("a" * 16, window)
        for detector, each in zip((in_rows, in_columns), found, strict=True):
            each += detector.advance(at_ns)
    assert found[0] == found[1]
    assert found[0]
