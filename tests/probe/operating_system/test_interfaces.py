"""Which addresses of this machine are announced to members."""

from __future__ import annotations

import socket
from types import SimpleNamespace

from swarm_probe.operating_system.interfaces import addresses, chosen_link, zones


def test_addresses_leave_out_what_no_other_machine_can_reach() -> None:
    def entry(family: int, address: str) -> object:
        return SimpleNamespace(family=family, address=address)

    found = addresses(
        interfaces=lambda: {
            "lo": [entry(socket.AF_INET, "127.0.0.1"), entry(socket.AF_INET6, "::1")],
            "eth0": [
                entry(socket.AF_INET6, "2001:db8::7"),
                entry(socket.AF_INET6, "fe80::1%eth0"),
                entry(socket.AF_INET, "192.168.1.7"),
                entry(-1, "02:fc:00:00:00:01"),
            ],
        }
    )
    assert found == ("192.168.1.7", "2001:db8::7")
    assert addresses("10.0.0.1") == ("10.0.0.1",)


CARDS = {
    "eth0": [SimpleNamespace(family=socket.AF_INET, address="192.168.1.7"),
             SimpleNamespace(family=socket.AF_INET6, address="fe80::7%eth0")],
    "en5": [SimpleNamespace(family=socket.AF_INET6, address="fe80::5%en5"),
            SimpleNamespace(family=socket.AF_INET, address="169.254.7.2")],
}  # fmt: skip


def test_a_direct_cable_is_announced_last_and_only_if_wanted() -> None:
    def cards() -> dict[str, list[SimpleNamespace]]:
        return CARDS

    assert addresses(interfaces=cards, link_local=True) == ("192.168.1.7", "169.254.7.2", "fe80::5", "fe80::7")
    assert addresses(interfaces=cards, interface="en5") == ()
    assert addresses(interfaces=cards, interface="en5", link_local=True) == ("169.254.7.2", "fe80::5")
    assert zones(interfaces=cards) == ("eth0", "en5")
    assert zones("en5", interfaces=cards) == ("en5",)
    assert chosen_link("", "en5", cards)
    assert chosen_link("169.254.7.2", "", cards)
    assert not chosen_link("", "eth0", cards)
    assert not chosen_link("", "", cards)
