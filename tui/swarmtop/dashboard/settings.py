"""Read the user's settings from `config.toml`: keys, theme, columns. Pure except for reading that file.

    theme = "light"                       # dark, light, contrast, ansi; auto
    ascii = true
    columns = ["state", "gain", "rtt99"]  # of the ranking
    alerts = ["rtt_p99_ms<250 for 1m"]    # as of `swarmtop alert`: shown, and announced when they fire and clear
    [keys]
    quit = "ctrl+x"                       # action = key; the names stand in the help of each screen

Looked for in `$SWARMTOP_HOME`, else `$XDG_CONFIG_HOME/swarmtop`, else `~/.config/swarmtop`. No file: nothing is set.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import msgspec

from swarm_protocol.text import safe
from swarmtop.dashboard.keymap import KeymapError, keymap

FILE: Final = "config.toml"
MAX_BYTES: Final = 1 << 16
FORMER_NAMES: Final = {"win": "gain"}  # of columns, in files written for an earlier version
THEMES: Final = ("dark", "light", "contrast", "ansi")


class SettingsError(ValueError):
    """The file contains something invalid; one line, with what to do."""


class Settings(msgspec.Struct, frozen=True):
    theme: str = "auto"  # dark, or ansi where the terminal has no more than sixteen colours
    ascii: bool = False
    columns: tuple[str, ...] = ()  # empty: all that fit
    alerts: tuple[str, ...] = ()
    keys: dict[str, str] = msgspec.field(default_factory=dict)


def path() -> Path:
    if home := os.environ.get("SWARMTOP_HOME"):
        return Path(home) / FILE
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "swarmtop" / FILE


def load(file: Path) -> Settings:
    """Read the settings; without a file, the defaults. Raises SettingsError."""
    shown = safe(str(file))
    try:
        if file.stat().st_size > MAX_BYTES:
            raise SettingsError(f"{shown} has more than {MAX_BYTES >> 10} KiB, the most that settings may have")
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise SettingsError(f"cannot read {shown} ({error.strerror}); correct it or move it away") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{shown} is not text; correct it or move it away") from error
    try:
        return parse(text)
    except SettingsError as error:
        raise SettingsError(f"{shown}: {error}") from error


def parse(text: str) -> Settings:
    """Parse the settings. Raises SettingsError, without the file's name."""
    import tomllib  # most people have no such file, and the first paint does not wait for this import

    from swarmtop.dashboard.lines.columns import BY_NAME

    try:
        found: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"not TOML ({safe(str(error))})") from error
    unknown = sorted(set(found) - {"theme", "ascii", "columns", "alerts", "keys"})
    if unknown:
        raise SettingsError(f"no setting {safe(unknown[0])}; there are theme, ascii, columns, alerts and [keys]")
    theme = found.get("theme", "auto")
    if theme not in (*THEMES, "auto"):
        raise SettingsError(f"no theme {safe(str(theme))}; choose one of {', '.join(THEMES)}")
    if not isinstance(found.get("ascii", False), bool):
        raise SettingsError("ascii is true or false")
    columns = found.get("columns", [])
    if not isinstance(columns, list) or not all(isinstance(c, str) for c in columns):
        raise SettingsError('columns is a list of names, as ["gain", "rtt99"]')
    columns = [FORMER_NAMES.get(name, name) for name in columns]
    if missing := [c for c in columns if c not in BY_NAME]:
        raise SettingsError(f"no column {safe(missing[0])}; there are {', '.join(BY_NAME)}")
    keys = found.get("keys", {})
    if not isinstance(keys, dict) or not all(isinstance(key, str) and key for key in keys.values()):
        raise SettingsError('[keys] has lines like quit = "ctrl+x"')
    try:
        keymap(keys)
    except KeymapError as error:
        raise SettingsError(safe(str(error))) from error
    alerts = _alerts(found.get("alerts", []))
    return Settings(theme=theme, ascii=found.get("ascii", False), columns=tuple(columns), alerts=alerts, keys=keys)


def _alerts(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(rule, str) for rule in found):
        raise SettingsError('alerts is a list of rules, as ["state!=lost for 1m"]')
    if found:
        from swarmtop.alerts.state import parse_alert  # imports the planner, only if there are alerts
        from swarmtop.analysis.rules import RuleError

        try:
            for rule in found:
                parse_alert(rule)
        except RuleError as error:
            raise SettingsError(safe(str(error))) from error
    return tuple(found)
