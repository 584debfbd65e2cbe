"""Build the wheel of the swarmtop that runs here, so that volunteers install the same version without a package index.

It is packed from the installed files (an editable checkout too): the import packages, and the metadata that was
installed with them. Equal files give equal bytes, so the hash in an invite holds across restarts of the collector. The
version is derived from the content (0.1.0+h75d69c4e), because installers skip what has the same version. Man pages and
completions are left out. The wheel format: PEP 427.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DISTRIBUTION: Final = "swarmtop"
PACKAGES: Final = (
    "swarm_protocol", "swarm_storage", "swarm_probe", "swarm_collector", "swarm_predict", "swarmtop", "swarm_lab",
)  # fmt: skip
_METADATA: Final = ("METADATA", "entry_points.txt")
_WHEEL: Final = b"Wheel-Version: 1.0\nGenerator: swarm-collector\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_VERSION: Final = re.compile(rb"^Version: .*$", re.MULTILINE)
LABEL: Final = 8  # hex digits
_MADE_AT: Final = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold: times must not change the hash


class WheelError(Exception):
    """No wheel can be made of this installation; one line that says why."""


@dataclass(frozen=True, slots=True)
class Wheel:
    name: str  # the file's, as installers demand it
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def wheel_of_this() -> Wheel:
    """Build the wheel; takes about a third of a second. Raises WheelError."""
    try:
        installed = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise WheelError("swarmtop runs here without being installed; install it with pip, uv or pipx") from error
    files = dict(_modules())
    metadata = {}
    for name in _METADATA:
        text = installed.read_text(name)
        if text is None:
            raise WheelError(f"this installation has no {name}; reinstall swarmtop")
        metadata[name] = text.encode()
    for path in installed.files or ():
        if path.parent.name == "licenses":
            metadata[f"licenses/{path.name}"] = path.read_binary()
    metadata["WHEEL"] = _WHEEL
    released = installed.version.partition("+")[0]
    version = f"{released}+h{_digest({**files, **metadata}, without='METADATA')[:LABEL]}"
    metadata["METADATA"] = _VERSION.sub(f"Version: {version}".encode(), metadata["METADATA"], count=1)
    folder = f"{DISTRIBUTION}-{version}.dist-info"
    files |= {f"{folder}/{name}": data for name, data in metadata.items()}
    files[f"{folder}/RECORD"] = _record(files, folder)
    return Wheel(f"{DISTRIBUTION}-{version}-py3-none-any.whl", _packed(files))


def _modules() -> Iterator[tuple[str, bytes]]:
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise WheelError(f"{package} is not a folder of files here; install swarmtop with pip, uv or pipx")
        root = Path(found.origin).parent
        try:
            for path in sorted(root.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield f"{package}/{path.relative_to(root).as_posix()}", path.read_bytes()
        except OSError as error:
            raise WheelError(f"cannot read {error.filename} ({error.strerror})") from error


def _digest(files: dict[str, bytes], *, without: str) -> str:
    """Return the digest of names and contents. `without`: the file that the digest is written into."""
    digest = hashlib.sha256()
    for name, data in files.items():
        if name != without:
            digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _record(files: dict[str, bytes], folder: str) -> bytes:
    rows = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        rows.append(f"{name},sha256={digest},{len(data)}")
    return "\n".join([*rows, f"{folder}/RECORD,,", ""]).encode()


def _packed(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _MADE_AT)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return packed.getvalue()
