"""Several cards of one machine: the columns have their total, the facts have each of them."""

from __future__ import annotations

from swarm_protocol.messages.samples import HostSample
from swarm_protocol.snapshot.nodes.node_figures import cards_of, host_figures
from swarm_protocol.snapshot.swarm import Card


def reading(gpu: str | None, **fields: float) -> HostSample:
    return HostSample(at_ns=1, gpu=gpu, **fields)  # type: ignore[arg-type]


def test_each_of_two_cards_is_reported_and_the_columns_hold_the_machine() -> None:
    samples = [
        reading("RTX 3090", gpu_util_percent=90, temp_c=70.0, power_w=300.0, clock_mhz=1700.0),
        reading("RTX 3090", gpu_util_percent=10, temp_c=50.0, power_w=40.0, clock_mhz=210.0),
    ]
    assert cards_of(samples) == (
        Card("RTX 3090", 90.0, None, None, 70.0, 300.0, 1700.0),
        Card("RTX 3090", 10.0, None, None, 50.0, 40.0, 210.0),
    )
    together = host_figures(samples, None)
    assert {name: together[name] for name in ("gpu_util_percent", "temp_c", "power_w", "clock_mhz")} == {
        "gpu_util_percent": 50.0, "temp_c": 70.0, "power_w": 340.0, "clock_mhz": 210.0,
    }  # fmt: skip


def test_one_card_and_none_need_no_list() -> None:
    assert cards_of([reading("T4")]) == ()
    assert cards_of([reading(None)]) == ()
