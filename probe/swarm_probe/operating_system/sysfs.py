"""Read small files of sysfs. A file that is missing, unreadable or not a number is None or empty: it never raises."""

from __future__ import annotations

from pathlib import Path

from swarm_probe.operating_system.small_files import small_file


def text(path: Path) -> str:
    try:
        return small_file(path).decode(errors="replace").strip()
    except OSError:
        return ""


def number(path: Path) -> int | None:
    found = text(path)
    try:
        return int(found, 0) if found else None
    except ValueError:
        return None


def first_number(*paths: Path) -> int | None:
    """Return the number in the first of these files that has one."""
    return next((found for path in paths if (found := number(path)) is not None), None)


def scaled(value: int | None, units: float) -> float | None:
    """Return a reading in its usual unit: sysfs counts thousandths of a degree, millionths of a watt."""
    return None if value is None else value / units


def sensors(device: Path, driver: str) -> Path:
    """Return the folder of the card's sensors: the one that has the driver's name, as i915 has more for each GT.

    Where none does it is the first; if there is none, a folder that does not exist.
    """
    try:
        folders = sorted((device / "hwmon").glob("hwmon*"))
    except OSError:
        folders = []
    named = [folder for folder in folders if text(folder / "name") == driver]
    return next(iter([*named, *folders]), device / "hwmon" / "none")


def labelled(folder: Path, kind: str, *labels: str) -> int | None:
    """Return the sensor with the first of these labels that is there: `temp2_label` names `temp2_input`."""
    found = {}
    try:
        for path in folder.glob(f"{kind}*_label"):
            found[text(path)] = number(path.with_name(path.name.replace("_label", "_input")))
    except OSError:
        return None
    return next((found[label] for label in labels if found.get(label) is not None), None)
