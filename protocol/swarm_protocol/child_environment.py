"""The environment of child processes: the parent's, without what looks like a secret.

A child that runs torch, a driver's tool or a signature needs paths and settings of libraries, never the invite or
token that the parent was given, nor the keys to other services that stand beside them on somebody's machine. Which
settings a GPU stack reads is open-ended, so names and values that look like secrets are left out, and all else passes.
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
    """By its name, or because it is a URL with a user or password in it (a database, a proxy)."""
    upper = name.upper()
    if upper in _NOT_SECRET or upper in OWN_KEPT:
        return False
    if upper.startswith(OWN_PREFIXES) or any(word in upper for word in _WORDS):
        return True
    return not _PARTS.isdisjoint(re.split(r"[^A-Z]+", upper)) or _URL_WITH_PASSWORD.search(value) is not None
