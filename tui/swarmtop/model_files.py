"""Read files that describe a model: config.json, a Hugging Face folder or cache entry, GGUF files."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from swarm_predict.model.names import kept
from swarm_predict.types import UnknownModel
from swarm_protocol.text import safe
from swarmtop.errors import CommandError
from swarmtop.file_arguments import read_named

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape

# A Hugging Face config.json has a few kilobytes; one that lists each module's format (ModelOpt) has megabytes.
MAX_CONFIG_BYTES: Final = 16 << 20
GGUF: Final = ".gguf"
_PART: Final = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_HUB_ID: Final = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def model_at(path: Path) -> ModelShape:
    """Return the model of a file or a folder. Raises UnknownModel, and CommandError for unreadable files."""
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() == GGUF or _begins_with_gguf(path):
        return _gguf(path)
    if path.name == "config.json":
        return _config(path, path.resolve().parent.name or path.stem)
    return _config(path, path.stem.removesuffix("_config").replace("--", "/"))


def cached_model(hub_id: str) -> ModelShape | None:
    """Return the model of a Hugging Face id in this machine's cache; None: it is not there, or has no config.json."""
    if not _HUB_ID.fullmatch(hub_id):
        return None
    folder = _hub_cache() / f"models--{hub_id.replace('/', '--')}"
    config = _snapshot_config(folder)
    return None if config is None else _config(config, hub_id)


def _hub_cache() -> Path:
    """Return the cache folder as huggingface_hub finds it."""
    if given := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(given).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def _snapshot_config(folder: Path) -> Path | None:
    """Return config.json of the snapshot that `main` is, else of the newest."""
    snapshots = folder / "snapshots"
    try:
        revision = (folder / "refs" / "main").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        revision = ""
    if re.fullmatch(r"[0-9a-f]{6,64}", revision) and (snapshots / revision / "config.json").is_file():
        return snapshots / revision / "config.json"
    found = [path for path in snapshots.glob("*/config.json") if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _in_folder(folder: Path) -> ModelShape:
    name = folder.resolve().name
    if (folder / "config.json").is_file():
        return _config(folder / "config.json", name)
    if name.startswith("models--"):
        cached = _snapshot_config(folder)
        if cached is not None:
            return _config(cached, name.removeprefix("models--").replace("--", "/"))
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() == GGUF and path.is_file())
    firsts = [path for path in files if (part := _PART.fullmatch(path.name)) is None or int(part[2]) == 1]
    models = [path for path in firsts if not path.name.lower().startswith("mmproj")]
    if len(models) == 1:
        return _gguf(models[0])
    if models:
        raise CommandError(f"{safe(str(folder))} holds {len(models)} GGUF models; give one, as {safe(str(models[0]))}")
    raise CommandError(f"{safe(str(folder))} holds neither a config.json nor a GGUF file; correct --model")


def _config(path: Path, name: str) -> ModelShape:
    from swarm_predict.model.hf_config import from_config  # most people name a model of the catalogue

    config = _text(path)
    beside = path.with_name("hf_quant_config.json")  # TensorRT Model Optimizer before it wrote into config.json
    if '"quantization_config"' not in config and beside.is_file():
        return from_config(_with_quantisation(config, _text(beside)), kept(name))
    return from_config(config, kept(name))


def _with_quantisation(config: str, beside: str) -> Mapping[str, Any] | str:
    try:
        whole, packed = json.loads(config), json.loads(beside)
    except (ValueError, RecursionError):
        return config  # its own reader reports what is wrong with it
    given = packed.get("quantization") if isinstance(packed, dict) else None
    if not isinstance(whole, dict) or not isinstance(given, dict):
        return config
    return {**whole, "quantization_config": {"quant_method": "modelopt", **given}}


def _text(path: Path) -> str:
    data = read_named(path, "--model")
    if len(data) > MAX_CONFIG_BYTES:
        raise CommandError(f"{safe(str(path))} has {len(data)} bytes; no config.json is that long, correct --model")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnknownModel(f"{safe(str(path))} is not text; give --model a Hugging Face config.json") from error


def _gguf(path: Path) -> ModelShape:
    from swarm_predict.model.gguf import from_gguf  # the same

    part = _PART.fullmatch(path.name)
    name = part[1] if part else path.stem
    paths = [path]
    if part:
        paths = [path.with_name(f"{part[1]}-{i:05d}-of-{part[3]}.gguf") for i in range(1, int(part[3]) + 1)]
    with contextlib.ExitStack() as stack:
        return from_gguf([stack.enter_context(_mapped(each)) for each in paths], kept(name))


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """Map the bytes of a file: only those that are used are read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            view = memoryview(data)
            try:
                yield view
            finally:
                view.release()
    except FileNotFoundError as error:
        advice = "put all parts of the model beside each other" if _PART.fullmatch(path.name) else "correct --model"
        raise CommandError(f"{safe(str(path))} is not there; {advice}") from error
    except ValueError as error:  # mmap: an empty file
        raise CommandError(f"{safe(str(path))} is not a GGUF file ({error}); correct --model") from error
    except OSError as error:
        raise CommandError(f"cannot read {safe(str(path))} ({error.strerror}); correct --model") from error


def _begins_with_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False  # the next reader reports what is wrong
