"""Read the settings of `swarm-collector`: flags, then environment, then one TOML file, then defaults.

A setting called `show-addresses` is `--show-addresses`, `$SWARM_COLLECTOR_SHOW_ADDRESSES` and `show_addresses = true`
in the file that `--config` or `$SWARM_COLLECTOR_CONFIG` names. Unknown keys of the file are refused, so that a typo
does not silently select the default. The token has a variable that every command knows, `$SWARMTOP_TOKEN`.
"""

from __future__ import annotations

import argparse
import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from swarm_collector.scheduling.transfer_leases import DAILY_BYTES
from swarm_protocol import __version__
from swarm_protocol.addresses import DEFAULT_PORT, parse_address
from swarm_protocol.sizes_durations import parse_duration_s, parse_size, size_text
from swarm_protocol.text import safe
from swarm_protocol.trust.identity import default_state_dir
from swarm_protocol.units import NS_PER_S

TOKEN_VARIABLE: Final = "SWARMTOP_TOKEN"
PREFIX: Final = "SWARM_COLLECTOR_"
DEFAULT_MODEL: Final = "llama-3.1-8b"  # as swarmtop's own commands have it
DEFAULT_WEIGHTS: Final = "fp16"
DEFAULT_RETAIN: Final = "48h"
MIN_RETAIN_S: Final = 3600.0  # minute rollups are made of raw samples once their hour has ended
EVERY_ADDRESS: Final = "0.0.0.0"

_EPILOG: Final = """\
example:
  SWARMTOP_TOKEN="$(openssl rand -hex 16)" swarm-collector --listen 0.0.0.0:9470 --store sqlite:///swarm.db
  Then run `swarmtop invite` here, once for each machine: it prints the line to paste there. To watch the swarm:
  SWARMTOP_TOKEN=… swarmtop --connect THIS_HOST:9470

Each setting can also be given in a TOML file (--config) or in the environment:
  listen = "0.0.0.0:9470"          SWARM_COLLECTOR_LISTEN=0.0.0.0:9470
"""


class Unusable(Exception):
    """The arguments or a file they name cannot be used; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Setting:
    name: str  # of the flag, without dashes
    metavar: str  # empty: a switch
    help: str

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return TOKEN_VARIABLE if self.name == "token" else PREFIX + self.key.upper()


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("listen", "HOST:PORT", f"default 127.0.0.1:{DEFAULT_PORT}; port 0: any"),
    Setting(
        "store", "URL", "sqlite:///FILE (default: swarm.db in the state folder) or postgresql://USER@HOST/DATABASE"
    ),
    Setting("retain", "TIME", f"how long samples are kept: 48h, 7d, 4w or forever (default {DEFAULT_RETAIN})"),
    Setting("token", "T", f"token required from probes and viewers (default: ${TOKEN_VARIABLE}, else none)"),
    Setting(
        "model",
        "M",
        f"the model to measure, a name or a config.json, until a viewer chooses another (default: the last one, else "
        f"{DEFAULT_MODEL})",
    ),
    Setting("weights", "W", f"number format of its layers (default {DEFAULT_WEIGHTS})"),
    Setting(
        "transfers-a-day",
        "SIZE",
        f"maximum size of upload tests per member and day, in and out: 16MiB, 2GiB (default {size_text(DAILY_BYTES)})",
    ),
    Setting("state", "DIR", "folder of the collector's secret and its default store"),
    Setting("insecure", "", "accept plain text from other machines too; anyone on the path can read and change it"),
    Setting("proxy-cert", "FILE", "certificate (PEM) of the TLS proxy on this machine through which members connect"),
    Setting("show-addresses", "", "let viewers see the members' addresses"),
    Setting("wheel", "FILE", "wheel served to volunteers at /wheel: a file, or none (default: this installation)"),
    Setting("exit-with-parent", "", "end when the program that started this one does"),
    Setting("ready-file", "FILE", "write HOST:PORT there once connections are accepted"),
)


@dataclass(frozen=True, slots=True)
class Options:
    host: str
    port: int
    store: str
    state: Path
    retain_ns: int | None  # None: for ever
    token: str
    model: str | None  # None: what was measured last, else the default
    weights: str | None
    transfer_bytes: int
    insecure: bool
    proxy_cert: Path | None
    show_addresses: bool
    wheel: str | None  # a file, or none; None: this installation
    exit_with_parent: bool
    ready_file: Path | None


MIN_TRANSFER: Final = 256 << 10  # bytes a day; the shortest upload test sends as many


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, like every other error of ours."""
        self.exit(2, f"{self.prog}: {safe(message, 300)}; see {self.prog} --help\n")


def options_parser() -> argparse.ArgumentParser:
    """Return the parser; `--help` and the reference page are made from it."""
    parser = _Parser(
        prog="swarm-collector",
        description="Receive and store what the probes of a swarm measure, and stream it to dashboards.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="a TOML file with any of the settings below")
    for setting in SETTINGS:
        if setting.metavar:
            parser.add_argument(f"--{setting.name}", metavar=setting.metavar, help=setting.help)
        else:
            parser.add_argument(f"--{setting.name}", action="store_true", default=None, help=setting.help)
    parser.add_argument("--version", action="version", version=f"swarm-collector {__version__}")
    return parser


def options(argv: Sequence[str] | None, environment: Mapping[str, str] = os.environ) -> Options:
    """Return the options. Raises Unusable; argparse itself exits on unknown arguments."""
    given = vars(options_parser().parse_args(argv))
    config = given["config"] or environment.get(f"{PREFIX}CONFIG")
    chosen = _defaults() | (_of_file(Path(config)) if config else {}) | _of_environment(environment)
    chosen |= {key: value for key, value in given.items() if value is not None}
    host, port = listen_address(chosen["listen"])
    state = Path(chosen["state"]).expanduser() if chosen["state"] else default_state_dir()
    return Options(
        host=host,
        port=port,
        store=chosen["store"] or f"sqlite:///{state / 'swarm.db'}",
        state=state,
        retain_ns=retain_ns(chosen["retain"]),
        token=chosen["token"] or "",
        model=chosen["model"],
        weights=chosen["weights"],
        transfer_bytes=transfer_bytes(chosen["transfers_a_day"]),
        insecure=bool(chosen["insecure"]),
        proxy_cert=Path(chosen["proxy_cert"]) if chosen["proxy_cert"] else None,
        show_addresses=bool(chosen["show_addresses"]),
        wheel=chosen["wheel"],
        exit_with_parent=bool(chosen["exit_with_parent"]),
        ready_file=Path(chosen["ready_file"]) if chosen["ready_file"] else None,
    )


def _defaults() -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys((setting.key for setting in SETTINGS), None)
    return nothing | {
        "listen": f"127.0.0.1:{DEFAULT_PORT}",
        "retain": DEFAULT_RETAIN,
        "transfers_a_day": f"{size_text(DAILY_BYTES)}",
    }


def _of_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in SETTINGS:
        text = environment.get(setting.variable)
        if text is None:
            continue
        if setting.metavar:
            found[setting.key] = text
        elif text.lower() in ("1", "true", "yes", "0", "false", "no", ""):
            found[setting.key] = text.lower() in ("1", "true", "yes")
        else:
            raise Unusable(f"${setting.variable} is {safe(text)}; give true or false")
    return found


def _of_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise Unusable(f"cannot read --config {path} ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Unusable(f"{path} is not TOML ({error}); correct that line") from error
    known = {setting.key: setting for setting in SETTINGS}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise Unusable(f"{path} sets {safe(key)}, which is not a setting; {_instead(near, known)}")
        wanted = str if known[key].metavar else bool
        if not isinstance(value, wanted):
            say = 'text in quotes, as in "48h"' if wanted is str else "true or false"
            raise Unusable(f"{path} sets {key} = {safe(str(value))}; give {say}")
    return table


def _instead(near: Sequence[str], known: Mapping[str, object]) -> str:
    return f"{near[0]} is" if near else f"there are {', '.join(known)}"


def retain_ns(text: str) -> int | None:
    """Parse `48h`, `7d`, `4w`; None for `forever`. Raises Unusable."""
    if text == "forever":
        return None
    try:
        return round(parse_duration_s(text, least_s=MIN_RETAIN_S) * NS_PER_S)
    except ValueError as error:
        raise Unusable(f"--retain: {error}; forever keeps all") from error


def transfer_bytes(text: str) -> int:
    """Parse `16MiB`, `2GB`. Raises Unusable. Each probe's own limit takes precedence."""
    try:
        return parse_size(text, least=MIN_TRANSFER)
    except ValueError as error:
        raise Unusable(f"--transfers-a-day: {error}") from error


def listen_address(text: str) -> tuple[str, int]:
    """Parse `HOST:PORT`, `:PORT` (every address of this machine), `HOST`, `[v6]:PORT`. Raises Unusable."""
    try:
        host, port, _ = parse_address(text, any_host=EVERY_ADDRESS, least_port=0)
    except ValueError as error:
        raise Unusable(f"--listen: {error}") from error
    return host, port
