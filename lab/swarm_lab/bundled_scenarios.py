"""Find the scenarios that come with swarmtop: `swarmtop lab NAME` plays one, a path plays your own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from swarm_lab.emulation.scenario import ScenarioError

_FOLDER = resources.files("swarm_lab").joinpath("scenarios")


def bundled() -> list[str]:
    """Return their names, sorted."""
    return sorted(file.name.removesuffix(".toml") for file in _FOLDER.iterdir() if file.name.endswith(".toml"))


def bundled_text(name: str) -> str:
    return _FOLDER.joinpath(f"{name}.toml").read_text()


def scenario_text(name_or_path: str) -> str:
    """Return the text of a bundled scenario, or of a file. Raises ScenarioError."""
    if name_or_path in bundled():
        return bundled_text(name_or_path)
    path = Path(name_or_path)
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        if path.suffix == ".toml" or "/" in name_or_path:
            raise ScenarioError(f"cannot read {path} ({error})") from error
        raise ScenarioError(
            f"no scenario {name_or_path!r}; there are {', '.join(bundled())}, or name a file"
        ) from error
