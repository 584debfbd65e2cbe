"""Read Prometheus text of GPU exporters: DCGM, nvitop, all-smi, nvidia_gpu_exporter, AMD's device metrics exporter.

Their metrics of memory differ in name, unit and labels and share a form: the name says total, used, free or reserved
and the unit; the labels name the machine and the GPU. A GPU whose name is in another metric (`…_gpu_info`) is found
there by its uuid or index.
"""

from __future__ import annotations

import re
from typing import Final

from swarmtop.imports.findings import ImportProblem
from swarmtop.imports.gpu.card import Card, Machines, free_of

_LINE: Final = re.compile(
    r"^([A-Za-z_:][\w:]*)\{([^}\n]*)\}[ \t]+([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?\d{1,3})?)(?:[ \t]+\d+)?[ \t]*$",
    re.MULTILINE,
)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_MACHINE: Final = ("Hostname", "hostname", "instance", "host", "node", "server")
_CARD: Final = ("UUID", "uuid", "gpu_uuid", "GPU_UUID", "gpu_id", "index", "gpu", "device")
_DEVICE: Final = (
    "modelName", "devicename", "device_name", "card_series", "card_model", "gpu_name", "product_name", "model", "name",
    "gpu",
)  # fmt: skip
_FIGURE: Final = re.compile(r"(total|used|free|reserved)", re.IGNORECASE)
_UNITS: Final = (("bytes", 1.0), ("mib", 1 << 20), ("gib", 1 << 30), ("mb", 1 << 20), ("megabytes", 1 << 20))
# Names of one exporter each that do not follow the form: DCGM counts MiB, AMD's exporter MB of 2²⁰ bytes.
_OTHERS: Final = {
    "DCGM_FI_DEV_FB_TOTAL": ("total", 1 << 20), "DCGM_FI_DEV_FB_FREE": ("free", 1 << 20),
    "DCGM_FI_DEV_FB_USED": ("used", 1 << 20), "DCGM_FI_DEV_FB_RESERVED": ("reserved", 1 << 20),
    "gpu_total_vram": ("total", 1 << 20), "gpu_used_vram": ("used", 1 << 20), "gpu_free_vram": ("free", 1 << 20),
}  # fmt: skip
_PERHAPS: Final = re.compile(r"_(?:gpu_)?(?:memory|mem|vram|fb)_|^(?:gpu_)?(?:memory|vram)_", re.IGNORECASE)


def is_metrics(text: str) -> bool:
    return bool(re.search(r"^# (TYPE|HELP) \w+", text, re.MULTILINE)) or bool(_LINE.search(text))


def machines(text: str) -> Machines:
    """Return the machines. Raises ImportProblem if no metric is about a GPU's memory."""
    figures: dict[tuple[str, str], dict[str, float]] = {}
    devices: dict[tuple[str, str], str] = {}
    for metric, labels_text, value in _LINE.findall(text):
        labels = dict(_LABEL.findall(labels_text))
        key = (_machine(labels), _card(labels))
        device = _device(labels)
        if device and (key not in devices or len(device) > len(devices[key])):
            devices[key] = device
        figure = _figure(metric)
        if figure is not None and key[1]:
            what, scale = figure
            figures.setdefault(key, {})[what] = float(value) * scale
    found: Machines = {}
    for key, known in figures.items():
        total = known.get("total")
        if total is None and "free" in known and "used" in known:
            total = known["free"] + known["used"] + known.get("reserved", 0.0)
        if total is None and "free" not in known:
            continue
        if key not in devices:
            raise ImportProblem(f"no metric names the card {key[1][:60]!r}; scrape the exporter's info metric as well")
        free = free_of(total, known.get("used"), known.get("free"), known.get("reserved"))
        found.setdefault(key[0], []).append(Card(devices[key], total, free))
    if not found:
        raise ImportProblem("none of these metrics is a card's memory; DCGM, nvitop and all-smi export some")
    return found


def _figure(metric: str) -> tuple[str, float] | None:
    if metric in _OTHERS:
        return _OTHERS[metric]
    lowered = metric.lower()
    what = _FIGURE.search(lowered)
    if what is None or not _PERHAPS.search(lowered) or "percent" in lowered or "util" in lowered or "bar1" in lowered:
        return None
    scale = next((scale for unit, scale in _UNITS if lowered.endswith((f"_{unit}", f"_{unit}_total"))), None)
    return None if scale is None else (what[1], scale)


def _machine(labels: dict[str, str]) -> str:
    word = next((labels[key] for key in _MACHINE if labels.get(key)), "")
    return re.sub(r":\d+$", "", word)  # HOST:PORT of its exporter


def _card(labels: dict[str, str]) -> str:
    instance = labels.get("GPU_I_ID", "")
    which = next((labels[key] for key in _CARD if labels.get(key)), "")
    return f"{which}/{instance}" if instance else which


def _device(labels: dict[str, str]) -> str:
    """Return its name, and the profile of its part (MIG). A bare number is an index."""
    name = next((labels[key] for key in _DEVICE if labels.get(key) and not labels[key].isdigit()), "")
    name = name if re.search(r"[A-Za-z].*\d|[A-Za-z]{3}", name) and not name.startswith("nvidia0") else ""
    profile = labels.get("GPU_I_PROFILE", "")
    return f"{name} MIG {profile}" if name and profile else name
