"""Read `nvidia-smi -q -x` (XML). For a GPU divided by MIG, its instances count and the GPU does not."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from swarmtop.imports.findings import ImportProblem
from swarmtop.imports.gpu.card import Card, amount_bytes, free_of


def log(text: str) -> list[Card]:
    """Read the log. Raises ImportProblem."""
    if "<!ENTITY" in text:
        raise ImportProblem("this XML defines entities; nvidia-smi -q -x writes none")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ImportProblem(f"this is not XML ({error})") from error
    if root.tag != "nvidia_smi_log":
        raise ImportProblem("this XML is not a log of nvidia-smi -q -x")
    cards: list[Card] = []
    for gpu in root.iter("gpu"):
        name = (gpu.findtext("product_name") or "").strip()
        if not name:
            continue
        instances = gpu.findall("mig_devices/mig_device")
        cards += [_card(f"{name} MIG", instance) for instance in instances] or [_card(name, gpu)]
    if not cards:
        raise ImportProblem("this log of nvidia-smi has no card in it")
    return cards


def _card(name: str, element: ElementTree.Element) -> Card:
    total, free, used, reserved = (
        amount_bytes(element.findtext(f"fb_memory_usage/{figure}") or "", "MiB", f"{figure} of {name[:40]}")
        for figure in ("total", "free", "used", "reserved")
    )
    return Card(name, total, free_of(total, used, free, reserved))
