"""Layers may take what an owner offers, whatever the machine has."""

from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.samples import HostSample
from swarm_protocol.snapshot.nodes.node_figures import host_figures, memory_bytes
from swarm_protocol.units import BYTES_PER_GIB


def facts(*gpus: GpuFacts, offer_gib: int | None) -> HostFacts:
    offer = None if offer_gib is None else offer_gib * BYTES_PER_GIB
    return HostFacts(system="s", cpu="c", cores=1, ram_bytes=64 * BYTES_PER_GIB, gpus=gpus, offer_bytes=offer)


def reading(**gpu: object) -> HostSample:
    ram = {"ram_free_bytes": 6 * BYTES_PER_GIB, "ram_total_bytes": 64 * BYTES_PER_GIB}
    return HostSample(at_ns=1, cpu_percent=1.0, **ram, **gpu)


def memory_gib(sample: HostSample, about: HostFacts) -> tuple[float, float]:
    figures = host_figures([sample], about)
    return figures["vram_bytes"] / BYTES_PER_GIB, figures["vram_free_bytes"] / BYTES_PER_GIB


def test_an_offer_is_the_memory_before_and_after_the_first_reading():
    assert memory_bytes(facts(offer_gib=4)) == 4 * BYTES_PER_GIB
    assert memory_gib(reading(), facts(offer_gib=4)) == (4, 4)
    assert memory_gib(reading(), facts(offer_gib=None)) == (32, 6)


def test_what_is_free_is_never_more_than_what_is_there():
    assert memory_gib(reading(), facts(offer_gib=10)) == (10, 6)


def test_an_offer_of_a_machine_with_a_card_is_of_the_card():
    card = GpuFacts(name="g", vram_bytes=24 * BYTES_PER_GIB)
    sample = reading(gpu="g", vram_total_bytes=24 * BYTES_PER_GIB, vram_free_bytes=20 * BYTES_PER_GIB)
    assert memory_gib(sample, facts(card, offer_gib=8)) == (8, 8)
    silent = host_figures([reading()], facts(card, offer_gib=8))
    assert (silent["vram_bytes"], silent["vram_free_bytes"]) == (8 * BYTES_PER_GIB, None)
