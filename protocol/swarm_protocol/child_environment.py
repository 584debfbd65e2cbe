"""Build the environment of child processes: the parent's, without variables that look like secrets.

A child that runs torch, a driver's tool or a signature needs paths and library settings, never the invite or token that
the parent was given, nor keys to other services that happen to be set. Nobody can list all settings that a GPU stack
reads, so variables that look like secrets are removed, and everything else is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

OWN_PREFIXES: Final = ("SWARMTOP_", "SWARM_COLLECTOR_")
OWN_KEPT: Final = frozenset({"SWARMTOP_HOME"})
_WORDS: Final = (
    "TOKEN", "INVITE", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "COOKIE", "APIKEY", "WEBHOOK",
)  # fmt: skip
_PARTS: Final = frozenset({"AUTH", "AUTHORIZATION", "DSN", "JWT", "KEY", "KEYS", "PASS", "PAT", "PW", "PWD"})
_NOT_SECRET: Final = frozenset({"PWD", "OLDPWD"})  # the working folder
_URL_WITH_PASSWORD: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]*@", re.IGNORECASE)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not looks_secret(name, value)}


def looks_secret(name: str, value: str) -> bool:
    """Return whether a variable looks secret: by its name, or as a URL with a user or password in it."""
    upper = name.upper()
    if upper in _NOT_SECRET or upper in OWN_KEPT:
        return False
    if upper.startswith(OWN_PREFIXES) or any(word in upper for word in _WORDS):
        return True
    return not _PARTS.isdisjoint(re.split(r"[^A-Z]+", upper)) or _URL_WITH_PASSWORD.search(value) is not None
